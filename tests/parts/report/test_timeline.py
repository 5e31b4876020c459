"""Figures and pictures of the events of all ranks, on timelines small enough to count by hand."""

import io

import numpy as np
import pytest

from app.plan.grid import Grid
from app.report.timeline import arrows, bubble, median_step, on_one_clock, shares, shares_table, steps, summary
from app.report.timeline_picture import picture
from app.report.trace import KINDS, Event


def event(name, begin, end, chunk=-1, microbatch=-1, step=0):
    return Event(name, float(begin), float(end), chunk, microbatch, step)


def timeline(per_rank, stages=2, offsets=None, predicted=0.25):
    ranks = len(per_rank)
    return on_one_clock(
        per_rank,
        offsets or [0.0] * ranks,
        grid=Grid(ranks, stages),
        hosts=["node1"] * ranks,
        phase="teacher",
        schedule="1f1b",
        predicted=predicted,
    )


def one_microbatch(step=0, begin=0, seconds=1):
    """Two stages, one microbatch, forward and backward of equal length: half of the time is bubble."""
    t = [begin + n * seconds for n in range(5)]
    first = [event("forward", t[0], t[1], 0, 0, step), event("backward", t[3], t[4], 0, 0, step)]
    last = [event("forward", t[1], t[2], 1, 0, step), event("backward", t[2], t[3], 1, 0, step)]
    return [first, last]


def test_all_ranks_on_the_clock_of_the_first():
    found = timeline(
        [[event("read", 105, 106), event("forward", 103, 104)], [event("forward", 3.5, 4)]], offsets=[0, 100]
    )
    assert [[(e.begin, e.end) for e in events] for events in found.events] == [[(0, 1), (2, 3)], [(0.5, 1)]]


def test_the_bubble_of_one_microbatch():
    assert bubble(timeline(one_microbatch())) == 0.5


def test_the_bubble_leaves_out_what_comes_before_and_after():
    first, last = one_microbatch(begin=10)
    first = [event("read", 0, 9), *first, event("all-reduce", 14, 20), event("optimizer", 20, 30)]
    assert bubble(timeline([first, last])) == 0.5


def test_the_bubble_is_the_median_over_steps_and_replicas():
    busy = [event("forward", 0, 2, 0, 0, 1)], [event("forward", 0, 2, 1, 0, 1)]
    half = one_microbatch(step=0)
    quarter = [event("forward", 0, 2, 0, 0, 0)], [event("forward", 1, 2, 1, 0, 0)]
    assert bubble(timeline([half[0] + busy[0], half[1] + busy[1], *map(list, quarter)])) == 0.25


def test_a_replica_without_work_has_no_bubble():
    without = [event("weights", 0, 1, 0)], [event("all-reduce", 0, 1, 1)]
    assert bubble(timeline([*one_microbatch(), *map(list, without)])) == 0.5
    assert bubble(timeline([list(events) for events in without])) is None


def test_the_step_of_median_length():
    per_rank = [[], []]
    for step, (begin, seconds) in enumerate([(0, 3), (20, 1), (30, 2)]):
        for rank, events in enumerate(one_microbatch(step, begin, seconds)):
            per_rank[rank] += events
    assert steps(timeline(per_rank)) == {0: (0, 12), 1: (20, 24), 2: (30, 38)}
    assert median_step(timeline(per_rank)) == 2


def test_shares_of_a_rank():
    events = [
        event("read", 0, 1),
        event("receive", 1, 5, 0, 0),
        event("weights", 2, 3, 0, 0),  # while it waits
        event("weights", 3, 4, 0, 1),
        event("forward", 6, 8, 0, 0),
        event("forward", 100, 102, 0, 0, step=1),  # what lies between two steps is not counted
    ]
    expected = {"forward": 0.4, "weights": 0.2, "receive": 0.2, "read": 0.1, "other": 0.1}
    assert shares(events) == pytest.approx(expected)
    assert shares([]) == {}


def test_events_that_touch_are_not_inside_each_other():
    assert shares([event("read", 0, 1), event("forward", 1 - 1e-12, 4)]) == pytest.approx(
        {"forward": 0.75, "read": 0.25, "other": 0}
    )


def test_the_table():
    assert shares_table(timeline(one_microbatch())) == [
        "rank  replica  stage  forward  backward   other",
        "----  -------  -----  -------  --------  ------",
        "   0        0      0   25.0 %    25.0 %  50.0 %",
        "   1        0      1   50.0 %    50.0 %   0.0 %",
    ]


def test_the_summary():
    bubbles = "bubble: measured 50.0 %, predicted 25.0 %"
    assert summary(timeline(one_microbatch())) == (
        f"teacher: 1f1b on 1x2 (replicas x stages), 1 step of 4000 ms (median); {bubbles}"
    )
    silent = timeline([[event("read", 0, 1)], []], predicted=None)
    assert summary(silent).endswith("; bubble: not measured")


def test_arrows_between_three_chunks():
    """The middle one sends and receives both activations and gradients, for each of two replicas."""
    middle = ("receive", 0, 2), ("send", 3, 4), ("receive", 4, 5), ("send", 6, 7)
    replica = [
        [event("send", 1, 2, 0, 0), event("receive", 2, 7, 0, 0)],
        [event(*row, 1, 0) for row in middle],
        [event("receive", 0, 4, 2, 0), event("send", 5, 6, 2, 0)],
    ]  # fmt: skip
    found = arrows(timeline(replica * 2, stages=3))
    one = {(0, 1, 1, 2), (1, 3, 2, 4), (2, 5, 1, 5), (1, 6, 0, 7)}  # sender, send's begin, receiver, receive's end
    both = one | {(sender + 3, begin, receiver + 3, end) for sender, begin, receiver, end in one}
    assert {(a.sender, a.send.begin, a.receiver, a.receive.end) for a in found} == both
    assert len(found) == len(both)


def test_no_arrow_without_its_other_end():
    assert arrows(timeline([[event("send", 0, 1, 0, 0)], [event("receive", 0, 2, 1, 1)]])) == []


def colours(png):
    """Those that fill areas; smoothed text has a few pixels of many more."""
    from matplotlib.image import imread

    pixels = np.round(imread(io.BytesIO(png))[..., :3] * 255).astype(int).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {"#{:02X}{:02X}{:02X}".format(*pixel) for pixel in found[counts > 1000]}


def test_the_picture_shows_the_kinds_that_were_recorded():
    first, last = one_microbatch()
    shown = colours(picture(timeline([[event("read", -1, 0), *first], last])))
    names = {name for name, kind in KINDS.items() if kind.colour in shown}
    assert names == {"forward", "backward", "read"}


def test_later_chunks_of_a_stage_are_lighter():
    interleaved = [[event("forward", 0, 1, 0, 0), event("forward", 2, 3, 2, 0)], [event("forward", 1, 2, 1, 0)]]
    assert "#61A8CF" in colours(picture(timeline(interleaved)))
    assert "#61A8CF" not in colours(picture(timeline(one_microbatch())))


def test_the_picture_grows_with_the_ranks():
    from matplotlib.image import imread

    def height(replicas):
        return imread(io.BytesIO(picture(timeline(one_microbatch() * replicas)))).shape[0]

    assert height(1) < height(2) < height(8) < 2000


def test_names_of_the_user_are_shown_as_they_are():
    found = timeline(one_microbatch())._replace(phase="a$b^$ \x1b[2J")
    assert picture(found).startswith(b"\x89PNG")
    assert "\x1b" not in summary(found)
