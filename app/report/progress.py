"""How far a phase is: a bar on a terminal, else a line of the log every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from app.report import terminal
from app.report.log import Log

Loss = float | Callable[[], float] | None

# Drawing a bar takes about 2 ms of a training core.
_REDRAW_S = 0.5


class Progress:
    """Progress of `epochs` x `steps`, said on rank 0; `with Progress(log, "train A", steps=23, epochs=20) as ...`.

    `epochs=None` for one pass (evaluate, predict). `done` steps of the whole lie behind, on a restart. The last step is
    always said. Collective over: none.
    """

    def __init__(
        self, log: Log, title: str, *, steps: int, epochs: int | None = None, done: int = 0, every_s: float = 10.0
    ) -> None:
        self.log, self.title, self.steps, self.epochs, self.every_s = log, title, steps, epochs, every_s
        self.total = steps * (epochs or 1)
        self.begun = done
        self.epoch = self.step = -1
        self.samples = 0
        self.loss: Loss = None
        self._bar: _Bar | None = None
        self._said = True
        self._start = self._last = perf_counter()
        self._last_samples = 0
        self._rate = 0.0
        self._say_at = self._start + every_s
        self._due = self._say_at if log.rank == 0 else float("inf")

    def __enter__(self) -> Progress:
        columns = terminal.width(sys.stdout) if self.log.rank == 0 and self.log.console else 0
        if columns:
            self._bar = _Bar(self.title, self.total, self.begun, columns)
            self._due = self._start
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, epoch: int, step: int, samples: int, loss: Loss = None) -> None:
        """The step numbered `step` of `epoch` (both from 0) is done, with `samples` over all replicas; under 1 us.

        `loss` may be a function, called only when something is said: reading a device's number waits for it.
        """
        self.epoch, self.step, self.loss = epoch, step, loss
        self.samples += samples
        self._said = False
        if perf_counter() >= self._due:
            self._say()

    def close(self) -> None:
        """Take the bar away and say the last step, unless that was said already."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        if self.step >= 0 and self.log.rank == 0 and (bar is not None or not self._said):
            self._say_at = 0.0
            self._say()
        self._due = float("inf")

    def _say(self) -> None:
        now = perf_counter()
        self._measure(now)
        if self._bar is not None:
            self._bar.draw(self._steps_done(), self.record())
            self._due = now + _REDRAW_S
        if now >= self._say_at:
            (self.log.info if self._bar is None else self.log.note)(f"{self.title} {self.record()}")
            self._say_at = now + self.every_s
            self._said = True
        if self._bar is None:
            self._due = self._say_at

    def record(self) -> str:
        """`epoch 3/20 step 12/23  1,234 samples/s  loss 0.1234  ETA 00:12`"""
        epoch = "" if self.epochs is None else f"epoch {self.epoch + 1}/{self.epochs} "
        loss = self.loss() if callable(self.loss) else self.loss
        said_loss = "" if loss is None else f"  loss {loss:.4g}"
        return f"{epoch}step {self.step + 1}/{self.steps}  {number(self._rate)} samples/s{said_loss}  ETA {self._eta()}"

    def _measure(self, now: float) -> None:
        if now > self._last and self.samples > self._last_samples:
            self._rate = (self.samples - self._last_samples) / (now - self._last)
            self._last, self._last_samples = now, self.samples

    def _steps_done(self) -> int:
        return (self.epoch if self.epochs is not None else 0) * self.steps + self.step + 1

    def _eta(self) -> str:
        done = self._steps_done()
        if done <= self.begun:
            return "--:--"
        return clock((perf_counter() - self._start) / (done - self.begun) * max(0, self.total - done))


class _Bar:
    """A rich progress bar that draws only when told, so that no thread takes time from the computation."""

    def __init__(self, title: str, total: int, done: int, columns: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=sys.stdout, force_terminal=True, width=columns)
        layout = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[record]}", markup=False),
        )
        self._progress: Any = Progress(
            *layout, console=console, auto_refresh=False, transient=True, redirect_stderr=False
        )
        self._task = self._progress.add_task(title, total=total, completed=done, record="")
        self._progress.start()

    def draw(self, done: int, record: str) -> None:
        self._progress.update(self._task, completed=done, record=record, refresh=True)

    def close(self) -> None:
        self._progress.stop()


def number(value: float) -> str:
    """A rate for reading: `1,234`, `12.3`, `0.0123`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """`00:12`, `1:02:03`, `2d 03:04:05`"""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
