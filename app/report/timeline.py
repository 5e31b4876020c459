"""The events of all ranks on one clock, and what they say: steps, the measured bubble, who waits how long."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median, median_low
from typing import NamedTuple

from app.plan.grid import Grid
from app.report.log import escaped
from app.report.trace import COMPUTE, KINDS, Event


class Timeline(NamedTuple):
    """`events` by rank, each rank's by their begin, in seconds since the first of them; `predicted`: the bubble."""

    phase: str
    schedule: str
    grid: Grid
    hosts: tuple[str, ...]
    predicted: float | None
    events: tuple[tuple[Event, ...], ...]


class Arrow(NamedTuple):
    """One message: the rank and event of its send, the rank and event of the receive that it ended."""

    sender: int
    send: Event
    receiver: int
    receive: Event


def on_one_clock(
    per_rank: Sequence[Sequence[Event]],
    offsets: Sequence[float],
    *,
    grid: Grid,
    hosts: Sequence[str],
    phase: str,
    schedule: str,
    predicted: float | None,
) -> Timeline:
    """The timeline of all ranks' events; `offsets` in seconds to add to each rank's clock. Collective over: none."""
    shifted = [_since(-offset, events) for events, offset in zip(per_rank, offsets, strict=True)]
    zero = min((event.begin for events in shifted for event in events), default=0.0)
    events = tuple(tuple(sorted(_since(zero, rank), key=lambda event: (event.begin, -event.end))) for rank in shifted)
    return Timeline(phase, schedule, grid, tuple(hosts), predicted, events)


def _since(zero: float, events: Sequence[Event]) -> list[Event]:
    return [event._replace(begin=event.begin - zero, end=event.end - zero) for event in events]


def bubble(timeline: Timeline) -> float | None:
    """The part of a replica's time in which its stages do not compute, 0 to 1; None without a forward.

    Of each step and replica: 1 - compute / (stages * span), the span from the first forward's begin to the last end of
    a forward, backward or weights of the replica's ranks. The median over steps and replicas.
    """
    grid = timeline.grid
    work: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for rank, events in enumerate(timeline.events):
        for event in events:
            if KINDS[event.name].category == COMPUTE:
                work[event.step, grid.replica(rank)].append(event)
    found = [part for events in work.values() if (part := _idle(events, grid.stages)) is not None]
    return median(found) if found else None


def _idle(events: Sequence[Event], stages: int) -> float | None:
    forwards = [event.begin for event in events if event.name == "forward"]
    if not forwards:  # a replica without work in a short batch
        return None
    span = max(event.end for event in events) - min(forwards)
    return 1 - sum(event.end - event.begin for event in events) / (stages * span)


def steps(timeline: Timeline) -> dict[int, tuple[float, float]]:
    """Begin and end of each step over all ranks, in seconds, by its number."""
    found: dict[int, tuple[float, float]] = {}
    for event in (event for events in timeline.events for event in events):
        begin, end = found.get(event.step, (event.begin, event.end))
        found[event.step] = min(begin, event.begin), max(end, event.end)
    return dict(sorted(found.items()))


def median_step(timeline: Timeline) -> int:
    """The number of the step of median length, of an even number of steps the shorter. ValueError without events."""
    lengths = {step: end - begin for step, (begin, end) in steps(timeline).items()}
    middle = median_low(lengths.values())
    return next(step for step, length in lengths.items() if length == middle)


def shares(events: Sequence[Event]) -> dict[str, float]:
    """What part of one rank's steps each kind of event takes, 0 to 1, and "other": what no event covers.

    A rank's step lasts from its first begin to its last end; of events inside each other the inner one counts.
    """
    seconds: dict[str, float] = defaultdict(float)
    total = 0.0
    by_step: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_step[event.step].append(event)
    for ours in by_step.values():
        total += max(event.end for event in ours) - min(event.begin for event in ours)
        for name, own in _own_seconds(ours):
            seconds[name] += own
    if not total:
        return {}
    parts = {name: seconds[name] / total for name in KINDS if name in seconds}
    return parts | {"other": max(0.0, 1 - sum(parts.values()))}


def _own_seconds(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Each event's name and its seconds without those of events inside it; events ordered by begin."""
    rows: list[tuple[str, float]] = []
    around: list[tuple[int, float]] = []  # row and end of the events around this one
    for event in events:
        while around and around[-1][1] < event.end:
            around.pop()
        length = event.end - event.begin
        if around:
            row = around[-1][0]
            rows[row] = rows[row][0], rows[row][1] - length
        around.append((len(rows), event.end))
        rows.append((event.name, length))
    return rows


def arrows(timeline: Timeline) -> list[Arrow]:
    """Every message whose send and receive were both recorded.

    Activations go from chunk v to v + 1, gradients from v to v - 1. A chunk between two others sends both for a
    microbatch: the activations first, and it receives them first too.
    """
    last = max((event.chunk for events in timeline.events for event in events), default=-1)
    sends, receives = _messages(timeline, "send", last, 1), _messages(timeline, "receive", last, -1)
    return [Arrow(*sends[message], *receives[message]) for message in sends if message in receives]


_Message = tuple[int, int, int, int, int]  # step, replica, microbatch, from chunk, to chunk


def _messages(timeline: Timeline, name: str, last: int, ahead: int) -> dict[_Message, tuple[int, Event]]:
    """The sends (ahead = 1) or receives (ahead = -1) by what they carry; the neighbour `ahead` comes first."""
    found: dict[_Message, tuple[int, Event]] = {}
    seen: Counter[tuple[int, ...]] = Counter()
    for rank, events in enumerate(timeline.events):
        replica = timeline.grid.replica(rank)
        for event in (event for event in events if event.name == name):
            neighbours = [v for v in (event.chunk + ahead, event.chunk - ahead) if 0 <= v <= last]
            number = seen[event.step, replica, event.microbatch, event.chunk]
            seen[event.step, replica, event.microbatch, event.chunk] += 1
            if number < len(neighbours):
                way = (event.chunk, neighbours[number])
                found[event.step, replica, event.microbatch, *(way if ahead > 0 else way[::-1])] = rank, event
    return found


def shares_table(timeline: Timeline) -> list[str]:
    """Lines for the terminal: a head, a rule, and each rank's shares of its time in per cent."""
    per_rank = [shares(events) for events in timeline.events]
    names = [name for name in (*KINDS, "other") if any(name in parts for parts in per_rank)]
    head = ["rank", "replica", "stage", *("waiting" if name == "receive" else name for name in names)]
    rows = [
        [str(rank), str(timeline.grid.replica(rank)), str(timeline.grid.stage(rank))]
        + [f"{100 * parts.get(name, 0.0):.1f} %" for name in names]
        for rank, parts in enumerate(per_rank)
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def bubble_words(timeline: Timeline) -> str:
    """`bubble: measured 12.3 %, predicted 11.1 %`"""
    figures = (("measured", bubble(timeline)), ("predicted", timeline.predicted))
    said = [f"{word} {100 * part:.1f} %" for word, part in figures if part is not None]
    return "bubble: " + (", ".join(said) or "not measured")


def summary(timeline: Timeline) -> str:
    """`teacher: 1f1b on 2x2 (replicas x stages), 5 steps of 123.4 ms (median); bubble: ...`, for the terminal."""
    lengths = [end - begin for begin, end in steps(timeline).values()]
    many = f"{len(lengths)} step{'s' if len(lengths) > 1 else ''} of {1000 * median(lengths):.4g} ms (median)"
    place = f"{escaped(timeline.schedule)} on {timeline.grid} (replicas x stages)"
    return f"{escaped(timeline.phase)}: {place}, {many}; {bubble_words(timeline)}"
