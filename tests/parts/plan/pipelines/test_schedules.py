"""Schedules: every one can be played, holds no more than it says, and the checker finds what is broken."""

from itertools import product

import pytest

from app.plan.pipelines.schedule_check import problems
from app.plan.pipelines.schedules import SCHEDULES, Action, forward_only, in_flight_limit, make_schedule, show

STAGES, MICROBATCHES, CHUNKS = range(1, 9), range(34), range(1, 5)


def most(actions, *, begin, end):
    """Most microbatches between two kinds of action, in the order of the list."""
    now = highest = 0
    for action in actions:
        now += (action.kind == begin) - (action.kind == end)
        highest = max(highest, now)
    return highest


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_played(name, stages):
    for microbatches, chunks in product(MICROBATCHES, CHUNKS):
        schedule = make_schedule(name, stages=stages, microbatches=microbatches, chunks=chunks)
        assert problems(schedule) == [], (microbatches, chunks)


@pytest.mark.parametrize("stages", STAGES)
def test_forward_alone_can_be_played(stages):
    for microbatches, chunks in product(MICROBATCHES, CHUNKS):
        schedule = forward_only(stages=stages, microbatches=microbatches, chunks=chunks)
        assert problems(schedule) == [], (microbatches, chunks)
        work = sum(action.kind == "F" for actions in schedule for action in actions)
        assert work == stages * microbatches * chunks


@pytest.mark.parametrize(("lag", "extra"), [(0, 0), (3, 0), (100, 0), (1, 1), (0, 3)])
def test_lag_and_extra_leave_a_schedule_playable(lag, extra):
    for name, stages, microbatches, chunks in product(SCHEDULES, (1, 2, 5), (0, 1, 4, 11), (1, 3)):
        schedule = make_schedule(name, stages=stages, microbatches=microbatches, chunks=chunks, lag=lag, extra=extra)
        assert problems(schedule) == [], (name, stages, microbatches, chunks)


@pytest.mark.parametrize("name", SCHEDULES)
def test_as_many_are_in_flight_as_the_limit_says(name):
    for stages, microbatches, chunks in product(STAGES, (1, 7, 33), (1, 2)):
        schedule = make_schedule(name, stages=stages, microbatches=microbatches, chunks=chunks)
        for stage, actions in enumerate(schedule):
            limit = in_flight_limit(name, stage, stages=stages, microbatches=microbatches, chunks=chunks)
            assert most(actions, begin="F", end="B") == min(limit, microbatches * chunks)


def test_1f1b_holds_no_more_than_the_stages_to_the_last_and_gpipe_all():
    for stages, microbatches in product(STAGES, (8, 32)):
        one = make_schedule("1f1b", stages=stages, microbatches=microbatches)
        every = make_schedule("gpipe", stages=stages, microbatches=microbatches)
        for stage in range(stages):
            assert most(one[stage], begin="F", end="B") == stages - stage
            assert most(every[stage], begin="F", end="B") == microbatches


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_what_1f1b_holds_for_weights_too_does_not_grow_with_the_microbatches(lag):
    for stages in STAGES:
        peaks = [
            max(
                most(actions, begin="F", end="W")
                for actions in make_schedule("1f1b", stages=stages, microbatches=n, lag=lag)
            )
            for n in (16, 32, 64)
        ]
        assert peaks == [stages + lag] * 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_sums_form_in_one_order_under_any_number_of_microbatches(name):
    for microbatches in (0, 1, 3, 9):
        for stage, actions in enumerate(make_schedule(name, stages=3, microbatches=microbatches, chunks=2)):
            assert [action.chunk for action in actions if action.kind == "R"] == [stage + 3, stage]
            for kind, chunk in product("BW", (stage, stage + 3)):
                found = [action.microbatch for action in actions if action.kind == kind and action.chunk == chunk]
                assert found == list(range(microbatches))


def test_show_prints_the_work_of_each_stage():
    assert show(make_schedule("1f1b", stages=2, microbatches=3, lag=0)) == [
        "stage 0: F0 F1 B0 W0 F2 B1 W1 B2 W2 R",
        "stage 1: F0 B0 F1 B1 W0 F2 B2 W1 W2 R",
    ]
    assert show(make_schedule("gpipe", stages=1, microbatches=1, chunks=2, lag=0)) == [
        "stage 0: F0.0 F1.0 B1.0 W1.0 R1 B0.0 W0.0 R0"
    ]


def damaged(change):
    """A good schedule of 3 stages after `change`, which alters the lists of actions in place."""
    lists = [list(actions) for actions in make_schedule("1f1b", stages=3, microbatches=5)]
    change(lists)
    return tuple(map(tuple, lists))


def swap(actions, first, second):
    """Lets two actions change places."""
    a, b = actions.index(first), actions.index(second)
    actions[a], actions[b] = actions[b], actions[a]


def swap_receives(lists):
    for kind in ("RF", "F"):
        swap(lists[2], Action(kind, 2, 1), Action(kind, 2, 2))


def lose_send(lists):
    lists[0].remove(Action("SF", 0, 3))


def lose_receive(lists):
    lists[1].remove(Action("RB", 1, 3))


def weights_first(lists):
    swap(lists[0], Action("W", 0, 2), Action("B", 0, 2))


def backward_first(lists):
    swap(lists[2], Action("F", 2, 0), Action("B", 2, 0))


def sum_early(lists):
    swap(lists[1], Action("R", 1, -1), Action("W", 1, 4))


def descending(lists):
    for kind in ("RB", "B"):
        swap(lists[0], Action(kind, 0, 0), Action(kind, 0, 1))


def twice(lists):
    lists[0].append(Action("W", 0, 1))


def elsewhere(lists):
    lists[0].append(Action("F", 1, 0))


def wait_in_a_ring(lists):
    """Stage 0 wants the first gradients before it sends the first activations."""
    first = [Action(kind, 0, 0) for kind in ("RB", "F", "SF")]
    for action in first:
        lists[0].remove(action)
    lists[0][:0] = first


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            swap_receives,
            "stage 2: message 1 from stage 1 is taken for RF of microbatch 2 in chunk 2, but was sent for RF of",
        ),
        (lose_send, "stage 0: SF of microbatch 3 in chunk 0 is missing"),
        (lose_receive, "stage 1: RB of microbatch 3 in chunk 1 is missing"),
        (weights_first, "stage 0: W of microbatch 2 in chunk 0 stands before B of microbatch 2 in chunk 0"),
        (backward_first, "stage 2: B of microbatch 0 in chunk 2 stands before F of microbatch 0 in chunk 2"),
        (sum_early, "stage 1: R in chunk 1 stands before W of microbatch 4 in chunk 1"),
        (descending, "stage 0: B of microbatch 1 in chunk 0 stands before B of microbatch 0 in chunk 0"),
        (twice, "stage 0: W of microbatch 1 in chunk 0 is there 2 times"),
        (elsewhere, "stage 0: F of microbatch 0 in chunk 1 does not belong here"),
        (wait_in_a_ring, "stage 0: waits for ever at RB of microbatch 0 in chunk 0 (circular wait)"),
    ],
)
def test_the_checker_finds_what_is_broken(change, expected):
    assert any(line.startswith(expected) for line in problems(damaged(change))), problems(damaged(change))
