"""The simulation, against textbook bubbles and schedules small enough to play by hand."""

from itertools import pairwise

import pytest

from app.plan.pipelines.schedules import SCHEDULES, Action, forward_only, make_schedule
from app.plan.pipelines.simulation import ChunkTimes, simulate

UNIT = ChunkTimes(1.0, 1.0, 1.0)


def play(name, stages, microbatches, *, chunks=1, times=UNIT, transfer=0.0, **lags):
    schedule = make_schedule(name, stages=stages, microbatches=microbatches, chunks=chunks, **lags)
    return simulate(schedule, [times] * (stages * chunks), transfer)


@pytest.mark.parametrize(("stages", "microbatches"), [(1, 5), (2, 8), (4, 8), (4, 32), (8, 3)])
def test_gpipe_has_the_bubble_of_the_textbook(stages, microbatches):
    whole = play("gpipe", stages, microbatches, times=ChunkTimes(1.0, 1.0, 0.0))
    assert whole.bubble == pytest.approx((stages - 1) / (stages - 1 + microbatches))
    waited = 2 * (stages - 1)  # F and B of the other stages; W is in nobody's way
    split = play("gpipe", stages, microbatches)
    assert split.bubble == pytest.approx(waited / (waited + 3 * microbatches))


def test_a_wait_is_filled_with_weights_that_run_to_their_end():
    """Stage 0 waits from 7 on for gradients that are there at 9; W0 takes until 11."""
    schedule = make_schedule("gpipe", stages=2, microbatches=2, lag=5)
    played = simulate(schedule, [ChunkTimes(1.0, 1.0, 4.0), ChunkTimes(1.0, 3.0, 1.0)]).played[0]
    work = [(one.action.kind, one.action.microbatch, one.begin, one.end) for one in played if one.action.kind in "FBW"]
    assert work == [
        ("F", 0, 0.0, 1.0),
        ("F", 1, 1.0, 2.0),
        ("B", 0, 6.0, 7.0),  # stage 1: F0 1-2, F1 2-3, B0 3-6, B1 6-9
        ("W", 0, 7.0, 11.0),
        ("B", 1, 11.0, 12.0),
        ("W", 1, 12.0, 16.0),
    ]


def test_weights_run_early_once_and_in_order():
    simulation = play("1f1b", 2, 3, times=ChunkTimes(1.0, 1.0, 1.5), transfer=1.0, lag=5)
    for stage, played in enumerate(simulation.played):
        assert [one.action.microbatch for one in played if one.action.kind == "W"] == [0, 1, 2], stage
    first = [one.action for one in simulation.played[0]]
    assert first.index(Action("W", 0, 0)) < first.index(Action("B", 0, 2)), "later in the list, but there is a wait"


@pytest.mark.parametrize("name", SCHEDULES)
def test_nothing_overlaps_and_no_message_comes_before_it_is_sent(name):
    played = play(name, 3, 7, chunks=2, times=ChunkTimes(1.0, 1.3, 0.7), transfer=0.2).played
    ends = {one.action: one.end for stage in played for one in stage}
    for stage in played:
        assert all(before.end <= after.begin for before, after in pairwise(stage))
    for action, end in ends.items():
        if action.kind == "RF":
            assert end >= ends[Action("SF", action.chunk - 1, action.microbatch)] + 0.2
        if action.kind == "RB":
            assert end >= ends[Action("SB", action.chunk + 1, action.microbatch)] + 0.2


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_1f1b_holds_as_much_of_32_microbatches_as_of_16(stages):
    few, many = play("1f1b", stages, 16, transfer=0.1), play("1f1b", stages, 32, transfer=0.1)
    assert few.in_flight == many.in_flight == tuple(range(stages, 0, -1))
    assert max(many.pending) <= stages + 1
    assert max(play("gpipe", stages, 32).in_flight) == 32


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 8), (4, 8), (4, 32), (8, 13)])
def test_1f1b_waits_less_than_gpipe_and_interleaved_less_again(stages, microbatches):
    halves = ChunkTimes(0.5, 0.5, 0.5)
    interleaved = play("interleaved", stages, microbatches, chunks=2, times=halves).bubble
    assert interleaved < play("1f1b", stages, microbatches).bubble < play("gpipe", stages, microbatches).bubble


def test_without_microbatches_there_is_no_time_and_forward_alone_holds_nothing():
    empty = play("interleaved", 2, 0, chunks=2)
    assert (empty.seconds, empty.bubble) == (0.0, 0.0)
    forward = simulate(forward_only(stages=3, microbatches=4), [UNIT] * 3)
    assert (forward.seconds, forward.in_flight, forward.pending) == (6.0, (0, 0, 0), (0, 0, 0))


def test_a_schedule_that_waits_for_ever_is_refused():
    lost = ((Action("F", 0, 0),), (Action("RF", 1, 0), Action("F", 1, 0)))
    with pytest.raises(ValueError, match="stage 1 at .*RF"):
        simulate(lost, [UNIT] * 2)
