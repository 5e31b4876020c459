"""What may change between the starts of a run: resources, not what is computed."""

import pytest

from app.inputfile import read_input
from app.inputfile.resolved import resolved_dict, resolved_text
from app.plan.restart import differences, other_code

TEXT = """
[run]
name = "job"
[grid]
stages = 2
[data]
file = "data.h5"
inputs = "x"
targets = "y"
[network]
kind = "mlp"
[[phase]]
kind = "train"
name = "first"
"""


def changed(*settings: str) -> list[str]:
    before, now = read_input(TEXT, "job.toml"), read_input(TEXT, "job.toml", settings)
    assert before != now
    return differences(resolved_dict(before), resolved_dict(now), ["first"])


@pytest.mark.parametrize(
    "setting",
    [
        "grid.stages=1",
        "grid.schedule=gpipe",
        "grid.chunks=3",
        "grid.cut=measured",
        'grid.cut=["output"]',
        'grid.memory="1 GiB"',
        "grid.recompute=true",
        "grid.allreduce=mpi",
        "run.trace=5",
        "run.watchdog=7",
    ],
)
def test_resources_may_change(setting):
    assert not changed(setting)


@pytest.mark.parametrize("setting", ["run.seed=3", "network.widths=[5]", "phase.first.microbatch_size=3"])
def test_what_is_computed_may_not(setting):
    [difference] = changed(setting)
    assert setting.partition("=")[0] in difference


def test_a_resolved_cut_reads_back():
    given = read_input(TEXT, "job.toml", ['grid.cut=["output"]', 'grid.memory="3 MiB"', "grid.schedule=gpipe"])
    assert read_input(resolved_text(given), "resolved.toml") == given


def test_other_code_is_told_by_name():
    before = {"phalanx": "0.1.0", "torch": "2.13.0", "own.py": "aa"}
    assert other_code(before, {"phalanx": "0.1.0", "torch": "2.14.0", "own.py": "aa"}) == [
        "torch: was 2.13.0, is 2.14.0"
    ]
    assert other_code({}, before) == [], "a run of before versions were kept"
    assert other_code(before, {}) == []
