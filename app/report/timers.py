"""Where the time goes: named accumulators for one thread, and their spread over the ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple


class Timers:
    """Accumulated wall time in seconds by name, for one thread.

    `with timers("read"): ...` costs well under 1 us. Blocks may stand inside each other: time spent in the inner one
    counts for the inner name only, so the totals never add up to more than the time that passed.
    """

    __slots__ = ("_blocks", "_open", "_since")

    def __init__(self) -> None:
        self._blocks: dict[str, _Block] = {}
        self._open: list[_Block] = []
        self._since = 0.0

    def __call__(self, name: str) -> _Block:
        try:
            return self._blocks[name]
        except KeyError:
            block = self._blocks[name] = _Block(self)
            return block

    def totals(self) -> dict[str, float]:
        """Seconds by name, the running block included."""
        self._settle()
        return {name: block.seconds for name, block in self._blocks.items()}

    def reset(self) -> None:
        """All names back to zero; a running block counts from now."""
        self._settle()
        for block in self._blocks.values():
            block.seconds = 0.0

    def _settle(self) -> None:
        now = perf_counter()
        if self._open:
            self._open[-1].seconds += now - self._since
        self._since = now


class _Block:
    """One name's `with` block; there is one object per name, so entering makes none."""

    __slots__ = ("open", "seconds", "timers")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.open = timers._open
        self.seconds = 0.0

    def __enter__(self) -> None:
        now = perf_counter()
        if self.open:
            self.open[-1].seconds += now - self.timers._since
        self.open.append(self)
        self.timers._since = now

    def __exit__(self, *_: object) -> None:
        now = perf_counter()
        self.seconds += now - self.timers._since
        self.open.pop()
        self.timers._since = now


class Spread(NamedTuple):
    """One name's seconds over the ranks, and the rank with most of them."""

    min: float
    median: float
    max: float
    slowest_rank: int
    host: str


def spread(per_rank: Sequence[Mapping[str, float]], hosts: Sequence[str]) -> dict[str, Spread]:
    """The spread of each name over the ranks' `totals()`; a rank without a name counts as 0 s. `hosts` by rank."""
    names = dict.fromkeys(name for totals in per_rank for name in totals)
    result = {}
    for name in names:
        seconds = [totals.get(name, 0.0) for totals in per_rank]
        slowest = seconds.index(max(seconds))
        result[name] = Spread(min(seconds), median(seconds), max(seconds), slowest, hosts[slowest])
    return result


def spread_line(spreads: Mapping[str, Spread]) -> str:
    """`seconds (min/median/max over ranks): read 0.01/0.01/0.02, ...; slowest to compute: rank 3 on node7`."""
    times = ", ".join(f"{name} {row.min:.3f}/{row.median:.3f}/{row.max:.3f}" for name, row in spreads.items())
    slowest = spreads.get("compute")
    named = f"; slowest to compute: rank {slowest.slowest_rank} on {slowest.host}" if slowest else ""
    return f"seconds (min/median/max over ranks): {times}{named}"
