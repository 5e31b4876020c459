"""A timeline as a file in the Chrome Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

JSON object form: complete events (ph X), metadata (M), and flows (s, f) as arrows from sends to receives. Processes are
replicas, threads are ranks, times are microseconds (Trace Event Format, Google, 2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import app
from app.errors import ArtifactError
from app.plan.grid import Grid
from app.report.timeline import Timeline, arrows, bubble
from app.report.trace import KINDS, Event

_NS = 1e-9


def to_json(timeline: Timeline) -> bytes:
    """One event a line; what `read_trace` reads back."""
    other = {
        "creator": "phalanx",  # first: by these bytes a run folder knows the file as its own
        "version": app.__version__,
        "phase": timeline.phase,
        "grid": f"{timeline.grid} (replicas x stages)",
        "ranks": timeline.grid.ranks,
        "stages": timeline.grid.stages,
        "hosts": list(timeline.hosts),
        "schedule": timeline.schedule,
        "predicted_bubble": timeline.predicted,
        "measured_bubble": bubble(timeline),
    }
    events = [*_names(timeline), *_complete(timeline), *_flows(timeline)]
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    head = f'{{"otherData": {json.dumps(other)}, "displayTimeUnit": "ms", "traceEvents": [\n'
    return f"{head}{lines}\n]}}\n".encode()


def _names(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """What processes and threads are called, in the order of their numbers."""
    grid = timeline.grid
    for replica in range(grid.replicas):
        yield _metadata("process_name", replica, {"name": f"replica {replica}"})
        yield _metadata("process_sort_index", replica, {"sort_index": replica})
    for rank, host in enumerate(timeline.hosts):
        place = {"tid": rank}
        name = f"rank {rank}, stage {grid.stage(rank)}, {host}"
        yield _metadata("thread_name", grid.replica(rank), {"name": name}) | place
        yield _metadata("thread_sort_index", grid.replica(rank), {"sort_index": rank}) | place


def _metadata(name: str, replica: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "ts": 0, "pid": replica, "tid": 0, "args": args}


def _complete(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for rank, events in enumerate(timeline.events):
        for event in events:
            begin, end = _ns(event.begin), _ns(event.end)
            kind = KINDS[event.name]
            args = {"chunk": event.chunk, "microbatch": event.microbatch, "step": event.step}
            yield {
                "name": event.name, "cat": kind.category, "cname": kind.cname, "ph": "X",
                "ts": begin / 1000, "dur": (end - begin) / 1000, "pid": timeline.grid.replica(rank), "tid": rank,
                "args": {name: value for name, value in args.items() if value >= 0},
            }  # fmt: skip


def _flows(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """An arrow belongs to the event around its end: the send's begin, and the receive's last nanosecond."""
    for number, arrow in enumerate(arrows(timeline)):
        start, end = _ns(arrow.send.begin), max(_ns(arrow.receive.end) - 1, _ns(arrow.receive.begin))
        if end < start:  # the clocks of two hosts are not that exact; viewers refuse arrows back in time
            continue
        what = {"name": "message", "cat": "message", "id": number}
        sender, receiver = timeline.grid.replica(arrow.sender), timeline.grid.replica(arrow.receiver)
        yield what | {"ph": "s", "ts": start / 1000, "pid": sender, "tid": arrow.sender}
        yield what | {"ph": "f", "bp": "e", "ts": end / 1000, "pid": receiver, "tid": arrow.receiver}


def _ns(seconds: float) -> int:
    return round(seconds / _NS)


def read_trace(path: Path) -> Timeline:
    """A file that `to_json` made. Raises ArtifactError when it cannot be read or is something else."""
    try:
        tree = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ArtifactError(f"{path}: is damaged: expected JSON. What to try: delete it.") from None
    try:
        return _timeline(tree)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
        raise ArtifactError(
            f"{path}: is no trace of this program: expected what [run] trace writes. What to try: move it away."
        ) from None


def _timeline(tree: Any) -> Timeline:
    other = tree["otherData"]
    per_rank: list[list[Event]] = [[] for _ in range(other["ranks"])]
    for event in tree["traceEvents"]:
        if event["ph"] == "X":
            begin, args = event["ts"] * 1e-6, event["args"]
            numbers = (args.get(name, -1) for name in ("chunk", "microbatch", "step"))
            KINDS[event["name"]]  # a KeyError says that this is another program's
            per_rank[event["tid"]].append(Event(event["name"], begin, begin + event["dur"] * 1e-6, *numbers))
    if not any(per_rank):
        raise ValueError
    return Timeline(
        phase=str(other["phase"]),
        schedule=str(other["schedule"]),
        grid=Grid(other["ranks"], other["stages"]),
        hosts=tuple(other["hosts"]),
        predicted=other["predicted_bubble"],
        events=tuple(map(tuple, per_rank)),
    )
