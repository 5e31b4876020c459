"""Which networks an evaluate phase works on."""

from app.inputfile import read_input
from app.inputfile.resolved import resolved_text
from app.plan.plan import make_plan
from app.plan.show import show_plan

HEAD = """
[run]
name = "job"
[data]
file = "data.h5"
inputs = "x"
targets = "y"
[network]
kind = "mlp"
"""


def job(networks: str):
    trains = [f'[[phase]]\nkind = "train"\nname = "{name}"\nnetwork = "new"\n' for name in ("a", "b", "c")]
    evaluate = f'[[phase]]\nkind = "evaluate"\nname = "test"\n{networks}\n'
    return read_input(HEAD + trains[0] + trains[1] + evaluate + trains[2], "job.toml")


def planned(networks: str, done=()):
    return next(step for step in make_plan(job(networks), 1, done).phases if step.name == "test")


def test_one_several_or_all_that_were_made_before():
    assert planned("").networks == ("b",)
    assert planned('network = "a"').networks == ("a",)
    assert planned('network = ["b", "a"]').networks == ("b", "a")
    assert planned('network = "all"').networks == ("a", "b")


def test_it_is_done_again_when_one_of_them_is_made_anew():
    assert planned('network = "all"', ("a", "b", "test")).done
    assert not planned('network = "all"', ("b", "test")).done
    assert planned('network = "b"', ("b", "test")).done


def test_check_names_them():
    lines = show_plan(make_plan(job('network = ["a", "b"]'), 1))
    assert any("networks of a, b -> tables of test in run.h5" in line for line in lines)


def test_a_list_reads_back_from_the_resolved_text():
    for networks in ('network = "a"', 'network = ["a", "b"]', 'network = "all"', ""):
        given = job(networks)
        assert read_input(resolved_text(given), "again.toml") == given
