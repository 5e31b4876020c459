"""What `phalanx check` says about pipelines."""

import re

import pytest

from app.inputfile import read_input
from app.plan.plan import make_plan
from app.plan.show import show_plan

TEXT = """
[run]
name = "job"
[grid]
stages = 2
[data]
file = "data.h5"
inputs = "x"
targets = "y"
sample_shape = [32]
classes = 10
[network]
kind = "mlp"
widths = [32, 32, 32, 32, 32, 32, 32]
[[phase]]
kind = "train"
name = "first"
batch_size = 64
microbatch_size = 8
"""
USER = TEXT.replace('"mlp"\nwidths = [32, 32, 32, 32, 32, 32, 32]', '"mine.py:net"')


def shown(ranks: int, *settings: str, text: str = TEXT) -> str:
    return "\n".join(show_plan(make_plan(read_input(text, "job.toml", settings), ranks)))


def test_every_layer_is_on_one_stage():
    stages = re.findall(r"stage (\d): (\S+)\.\.(\S+); (\d+)% of the time, ([\d,]+) parameters", shown(2))
    assert [stage[:3] for stage in stages] == [("0", "hidden1", "hidden4"), ("1", "hidden5", "output")]
    assert sum(int(stage[3]) for stage in stages) in (99, 100, 101)
    total = re.search(r"([\d,]+) parameters", shown(2))[1]
    assert sum(int(stage[4].replace(",", "")) for stage in stages) == int(total.replace(",", ""))


def test_bytes_and_microbatches_in_flight_of_each_stage():
    lines = [line for line in shown(2).splitlines() if re.match("  stage", line)]
    assert all(re.search(r"iB weights, .*iB gradients \+ optimizer, .*iB activations", line) for line in lines)
    assert [re.search(r"\((\d+) in flight\)", line)[1] for line in lines] == ["2", "1"]


def test_replicas_and_their_ranks():
    text = shown(4)
    assert "4 ranks = 2 replicas x 2 stages" in text
    assert "replica 0 (ranks 0 to 1): microbatches 0, 2, 4, 6 of each batch" in text
    assert "replica 1 (ranks 2 to 3): microbatches 1, 3, 5, 7 of each batch" in text


def test_the_expected_step_and_bubble():
    assert re.search(
        r"expected: .* ms a step .* \d+% of it waiting \(8 microbatches of 8 on 2 stages, 1f1b\)", shown(2)
    )


def test_a_small_schedule_is_printed():
    lines = [line.split() for line in shown(2).splitlines() if re.match(r"    stage \d+: ", line)]
    assert [[word for word in words if word.startswith("F")] for words in lines] == [[f"F{i}" for i in range(8)]] * 2
    assert ": F0 " not in shown(2, "phase.first.microbatch_size=4"), "16 microbatches are too many to look at"


def test_chunks_of_an_interleaved_schedule():
    text = shown(2, "grid.schedule=interleaved")
    assert "stage 0: hidden1..hidden2, hidden5..hidden6;" in text
    assert "stage 1: hidden3..hidden4, hidden7..output;" in text


def test_a_measured_cut_is_said_to_come_later():
    assert "by measured times when the run starts" in shown(2, "grid.cut=measured")
    assert "measured" not in shown(2)


def test_the_users_network_is_cut_when_the_run_starts():
    text = shown(2, text=USER)
    assert "cut into 2 chunks when the run starts" in text
    assert re.search(r"would wait \d+% of a step", text)


def test_one_stage_is_shown_by_rank():
    text = shown(2, "grid.stages=1")
    assert "rank 0: microbatches 0, 2, 4, 6 of each batch; " in text
    assert "waiting" not in text


def notes(ranks: int, *settings: str, text: str = TEXT) -> list[str]:
    return [line for line in shown(ranks, *settings, text=text).splitlines() if line.startswith("note")]


@pytest.mark.parametrize("text", [TEXT, USER])
def test_a_large_bubble_is_noted_with_what_helps(text):
    wide = [] if text is USER else ["network.widths=[512, 512, 512, 512, 512, 512, 512]", "phase.first.batch_size=1024"]
    size = "phase.first.microbatch_size=" + ("64" if text is USER else "1024")
    [note] = notes(2, *wide, size, text=text)
    assert "of the ranks' time will be spent waiting" in note
    advised = re.search(r"microbatch_size = (\d+) would make it (\d+)%", note)
    assert int(advised[2]) <= 25
    assert not notes(2, *wide, f"phase.first.microbatch_size={advised[1]}", text=text)


def test_no_size_helps_where_layers_are_uneven():
    [note] = notes(2, "network.widths=[4096]", "data.sample_shape=[4096]", "phase.first.batch_size=256")
    assert re.search(r"the busiest with [\d.]+ x the mean work", note)
    assert "smaller microbatches would not be faster" in note


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["grid.stages=1", "grid.recompute=true", "grid.schedule=gpipe"],
            "schedule, recompute: no effect with stages = 1",
        ),
        (["grid.stages=1", 'grid.cut=["hidden3"]'], "cut: no effect with stages = 1"),
        (["grid.chunks=3", "phase.first.microbatch_size=2"], 'chunks = 3 has no effect: schedule = "1f1b"'),
    ],
)
def test_keys_without_effect_are_noted(settings, words):
    [note] = notes(2, *settings)
    assert words in note
