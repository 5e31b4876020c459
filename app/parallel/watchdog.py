"""Notices a rank that waits too long for the others, says who is missing and where, and ends the job.

In the hot path a rank only notes in memory what it does. When it is late it writes that to a small file in a shared
folder; the watchdogs of the other ranks see the file and answer with their own. One late rank then reports and aborts,
which also ends ranks that are stopped or stuck and cannot act themselves.

A rank may wait patiently for others that compute for as long as they like: it asks from time to time whether they are
there, and ends the job when one does not answer.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

from app.parallel.lateness import ASKS, HERE, LATE, Notes, State, diagnosis

POLLS = 8  # per limit
# At least, of a rank that is only asked: compilers and such keep its watchdog from running for seconds.
SILENCE_S = 20.0


class Operation:
    """What `with watchdog.operation(name)` enters; may be nested."""

    __slots__ = ("_before", "_now", "_watchdog")

    def __init__(self, watchdog: "Watchdog", name: str, patient: bool) -> None:
        self._watchdog = watchdog
        self._now = (name, time.monotonic(), patient)

    def __enter__(self) -> None:
        watchdog = self._watchdog
        self._before = watchdog.current
        watchdog.current = self._now

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        watchdog = self._watchdog
        watchdog.current = self._before
        if error is not None:
            watchdog.failed = watchdog.failed or self._now[0]
            return
        watchdog.finished = self._now[0]
        watchdog.failed = ""
        watchdog.count += 1


class Watchdog:
    """One per rank. `folder` must be the same for all ranks, on a file system that all of them see."""

    def __init__(
        self,
        rank: int,
        size: int,
        host: str,
        folder: Path,
        limit_s: float,
        log: Callable[[str], None],
        abort: Callable[[int], None],
    ) -> None:
        """limit_s: seconds in one operation after which the job is ended; 0 turns the watchdog off.

        log: called on the rank that reports, which may be any; abort: ends all ranks with an exit code.
        """
        self.current: tuple[str, float, bool] | None = None  # name, since when, whether it waits patiently
        self.finished = "nothing"
        self.failed = ""  # the operation that an error has just left
        self.count = 0
        self._place = ("start", 0, 0, time.monotonic())
        self._rank, self._size, self._host = rank, size, host
        self._limit_s = limit_s
        self._log, self._abort = log, abort
        self._notes = Notes(folder, rank, size)
        self._poll_s = min(max(limit_s / POLLS, 0.05), 5.0)
        self._answer_s = min(max(limit_s / 2, 3 * self._poll_s), 30.0)  # file systems of clusters show new files late
        self._all_there = 0.0  # when all others have last answered
        self._answers = False
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_resort: threading.Timer | None = None
        self._stacks_shown = False

    def operation(self, name: str) -> Operation:
        """Around everything that waits for other ranks. Main thread only. Collective over: none."""
        return Operation(self, name, False)

    def waiting(self, name: str, patient: bool = False) -> AbstractContextManager:
        """An operation, unless one is under way already; for Group.watched. Main thread only. Collective over: none.

        patient: others may compute for as long as they like; it is enough that their processes are there.
        """
        return nullcontext() if self.current is not None else Operation(self, name, patient)

    def place(self, phase: str, epoch: int, step: int) -> None:
        """Note where this rank is in the run. Collective over: none."""
        self._place = (phase, epoch, step, time.monotonic())
        self.failed = ""

    def where(self) -> str:
        """Place and operation as words, for failures.install_hooks; from any thread. Collective over: none."""
        current, now = self.current, time.monotonic()
        if current is not None:
            return f'{self._placed()}, in "{current[0]}" for {now - current[1]:.1f} s'
        if self.failed:
            return f'{self._placed()}, in "{self.failed}"'
        return self._placed() + (f', after "{self.finished}"' if self.count else "")

    def _placed(self) -> str:
        phase, epoch, step, _ = self._place
        return f"phase {phase}, epoch {epoch}, step {step}"

    def start(self) -> None:
        """Begin to watch, unless the limit is 0 or there is one rank only. Collective over: none."""
        if self._limit_s <= 0 or self._size == 1:
            return
        self._notes.clear()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching and remove the files. Collective over: none."""
        self._end.set()
        self._disarm()
        if self._thread is not None:
            self._thread.join(timeout=self._answer_s)
            self._notes.clear()
            self._thread = None

    def _watch(self) -> None:
        late_since: float | None = None
        asked_again = False
        while not self._end.wait(self._poll_s):
            if not self._late():
                self._retire(late_since is not None)
                late_since = None
                continue
            waited_s = 0.0 if late_since is None else time.monotonic() - late_since
            if late_since is None:
                late_since, asked_again = time.monotonic(), False
                self._notes.forget_answers()
            if self._patient():
                patience_s = max(self._limit_s, SILENCE_S) * (1 + self._before(self._notes.asking()))
                if waited_s > patience_s / 2 and not asked_again:  # who was stopped after it answered is silent now
                    asked_again = True
                    self._notes.forget_answers()
                states = self._ask()
                reports = waited_s > patience_s
            else:
                states = self._tell()
                reports = self._my_turn(states, waited_s)
            if reports and self._late():
                self._report(states)
                return

    def _late(self) -> bool:
        current, now = self.current, time.monotonic()
        if current is None:
            return False
        _, since, patient = current
        return now - (max(since, self._all_there) if patient else since) > self._limit_s

    def _patient(self) -> bool:
        current = self.current
        return current is not None and current[2]

    def _ask(self) -> dict[int, State]:
        """Whether all others are there; then, and where no question can be asked, the clock starts anew."""
        states = self._notes.exchange(self._state(), ASKS)
        there = self._notes.there()
        if len(there) == self._size or self._rank not in there:
            self._all_there = time.monotonic()
        return states

    def _tell(self) -> dict[int, State]:
        """That this rank is late."""
        if self._last_resort is None:
            self._arm()
        states = self._notes.exchange(self._state(), LATE)
        self._show_stacks(states)
        return states

    def _before(self, others: list[int]) -> int:
        """How many of the others report before this rank."""
        return min(3, sum(rank < self._rank for rank in others))

    def _my_turn(self, states: dict[int, State], waited_s: float) -> bool:
        """The lowest late rank reports once all have answered or had time to; the next ones only if it does not."""
        before = self._before(self._notes.late())
        answered = len(states) == self._size and before == 0 and waited_s > 2 * self._poll_s
        return answered or waited_s > self._answer_s * (1 + before)

    def _retire(self, was_late: bool) -> None:
        """Not late, or not any more: answer others that are; without any, forget."""
        if was_late:
            self._disarm()
            self._notes.remove_own()
        late = self._notes.late()
        if late or self._notes.asking():
            states, self._answers = self._notes.exchange(self._state(), HERE), True
            if late:
                self._show_stacks(states)
            return
        self._stacks_shown = False
        if self._answers:  # or whoever asks the next time would take it for an answer
            self._answers = False
            self._notes.remove_own()

    def _arm(self) -> None:
        """Abort even if the file system hangs, which may be what everybody waits for."""
        self._last_resort = threading.Timer(6 * self._answer_s, self._abort, (1,))
        self._last_resort.daemon = True
        self._last_resort.start()

    def _disarm(self) -> None:
        if self._last_resort is not None:
            self._last_resort.cancel()
            self._last_resort = None

    def _state(self) -> State:
        now = time.monotonic()
        name, since, _ = self.current or ("", now, False)
        return State(
            rank=self._rank,
            host=self._host,
            operation=name,
            seconds=now - since,
            finished=self.finished,
            number=self.count,
            place=self._placed(),
            place_seconds=now - self._place[3],
        )

    def _show_stacks(self, states: dict[int, State]) -> None:
        """The lowest late rank's, and those of ranks that do something else; a thousand equal ones help nobody."""
        first = min(self._notes.late(), default=self._rank)
        waits_too = first in states and states[first].operation == self._state().operation
        if self._stacks_shown or (waits_too and first != self._rank):
            return
        self._stacks_shown = True
        if sys.__stderr__ is None:
            return
        with contextlib.suppress(OSError, ValueError):  # a closed stderr must not keep us from ending the job
            text = f"watchdog: stacks of rank {self._rank} on {self._host}, {self.where()}\n"
            os.write(sys.__stderr__.fileno(), text.encode())
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)

    def _report(self, states: dict[int, State]) -> None:
        try:
            for line in diagnosis(states, self._state(), self._size, self._limit_s):
                self._log(line)
        finally:
            self._notes.remove_own()
            self._abort(1)
