"""Whether the run is to stop before its end, and how it does: a signal, the job's time limit, a file in its folder."""

import time
from collections.abc import Callable
from pathlib import Path

from app.errors import Held, Stopped
from app.parallel.group import Group
from app.parallel.requests import Requests
from app.parallel.world import World

LOOK_S = 1.0  # between two looks for the file
SHARE = 0.25  # of the time there is, at most, is kept free at its end


class Stopping:
    """Asked between steps on every rank; what any rank finds counts for all, once they have agreed.

    Rank 0 alone looks at the clock and for the file.
    """

    def __init__(
        self,
        world: World,
        requests: Requests | None,
        file: Path,
        ends_at: Callable[[bool], float | None],
        margin_s: float,
    ) -> None:
        """ends_at: when the time is up, as time.time() counts; with True it is looked up anew. None: no limit.

        margin_s: seconds to be left then. It grows with the longest step and save, and is no more than a quarter of the
        time that there was.
        """
        self._world, self._requests, self._file, self._ends_at = world, requests, file, ends_at
        self._looked = 0.0
        self._reason = ""
        self._longest = {"step": 0.0, "save": 0.0}
        end = ends_at(False) if world.rank == 0 else None
        self._end = None if end is None else time.monotonic() + end - time.time()
        self._margin_s = margin_s if self._end is None else min(margin_s, SHARE * (self._end - time.monotonic()))

    def took(self, what: str, seconds: float) -> None:
        """A step or a save has taken so long. Collective over: none."""
        self._longest[what] = max(self._longest[what], seconds)

    def asked(self) -> bool:
        """Whether this rank knows of a reason to stop. Collective over: none."""
        return bool(self.reason())

    def reason(self) -> str:
        """Why, in words; "" for none. Collective over: none."""
        if not self._reason and self._requests is not None and self._requests.asked:
            self._reason = f"{self._requests.asked} arrived"
        if not self._reason and self._world.rank == 0:
            self._reason = self._time() or self._found()
        return self._reason

    def agreed(self, group: Group | None) -> bool:
        """Whether any rank of the group is asked. Collective over: the group; None: this rank alone."""
        return any(group.allgather(self.asked())) if group is not None else self.asked()

    def stopped(self, where: str) -> Stopped:
        """The error that ends the run, on every rank; where: what was saved, in words. Collective over: world."""
        reasons = self._world.allgather(self.reason())
        rank, reason = next(((rank, one) for rank, one in enumerate(reasons) if one), (0, "asked"))
        by = f" on rank {rank}" if rank else ""
        kind = Held if reason == self._held() else Stopped
        return kind(f"stopped: {reason}{by}; {where}. The same command goes on.").on_every_rank()

    def between(self, what: str) -> None:
        """Before something that is not saved while it lasts. Collective over: world. Raises Stopped."""
        if any(self._world.allgather(self.asked())):
            raise self.stopped(f"{what} has not begun")

    def _held(self) -> str:
        return f"{self._file} was found"

    def _found(self) -> str:
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return ""
        self._looked = now
        return self._held() if self._file.exists() else ""

    def _time(self) -> str:
        if self._end is None:
            return ""
        margin_s = max(self._margin_s, 2 * sum(self._longest.values()))
        if time.monotonic() < self._end - margin_s:
            return ""
        end = self._ends_at(True)  # somebody may have given the job more time
        if end is not None:
            self._end = time.monotonic() + end - time.time()
        left = self._end - time.monotonic()
        return f"{max(0.0, left):.0f} s are left of the time limit" if left <= margin_s else ""
