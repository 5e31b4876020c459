"""What the log of a run tells: warnings and errors, and how long each phase was at work."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

_BEGIN = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (debug|info|warning|error) +(.*)")
_START = re.compile(r"phalanx \S+: .* -> ")
_PHASE = re.compile(r"(.+): \S+ begins")
_ENDS = ("done; results in ", "stopped:")
_SHOWN = 50


class Entry(NamedTuple):
    """One line of the log, with those that go on below it."""

    when: str
    level: str
    text: str


def entries(log: str) -> Iterator[Entry]:
    """In their order; a line cut short by a kill is left out."""
    when = level = ""
    lines: list[str] = []
    for line in log.splitlines():
        begun = _BEGIN.fullmatch(line)
        if begun is None:
            lines.append(line.strip())
            continue
        if when:
            yield Entry(when, level, "\n".join(lines).rstrip())
        when, level, lines = begun[1], begun[2], [begun[3]]
    if when:
        yield Entry(when, level, "\n".join(lines).rstrip())


def complaints(found: Iterable[Entry]) -> tuple[list[Entry], int]:
    """The last warnings and errors, and how many there are of both."""
    all_of_them = [entry for entry in found if entry.level in ("warning", "error")]
    return all_of_them[-_SHOWN:], len(all_of_them)


def seconds(found: Iterable[Entry], phases: Collection[str]) -> dict[str, float]:
    """How long each phase was at work, over all starts of the run, to the second."""
    spent: dict[str, float] = {}
    phase = ""
    since = last = datetime.min
    for entry in found:
        now = _time(entry.when) or last
        begun = _PHASE.fullmatch(entry.text.partition("\n")[0])
        name = begun[1] if begun and begun[1] in phases else ""
        starts = _START.match(entry.text) is not None
        if phase and (name or starts or entry.text.startswith(_ENDS)):
            spent[phase] = spent.get(phase, 0.0) + ((last if starts else now) - since).total_seconds()
            phase = ""
        if name:
            phase, since = name, now
        last = now
    if phase:
        spent[phase] = spent.get(phase, 0.0) + (last - since).total_seconds()
    return {name: max(0.0, total) for name, total in spent.items()}


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
