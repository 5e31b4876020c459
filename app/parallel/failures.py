"""An error on one rank ends all of them: the others would wait for it for ever."""

import atexit
import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType

from app.errors import PhalanxError
from app.parallel.world import World
from app.report.log import escaped

INTERRUPTED = 130  # what shells use for Ctrl-C
SECONDHAND = "HorovodInternalError"  # what ranks that are well get of Horovod when another one leaves it
PATIENCE_S = 2.0  # for that one to say why and to end the job
TURN_S, TURNS = 1.0, 3  # a disk that is full is so for many ranks at once: the lowest one tells the user


def install_hooks(
    world: World, place: Callable[[], str], noted: Callable[[int, str], None] = lambda code, text: None
) -> None:
    """From now on an uncaught exception in any thread, or an exit without world.leave(), ends all ranks.

    place: where this rank is, in words (Watchdog.where). noted: called last, with the exit code and what went wrong. To
    stderr go rank, host, place and traceback; of a PhalanxError only its sentences, and its exit code is the job's.
    A thread that leaves by sys.exit() or with 0 ends itself alone, as Python has it; with anything else it ends the
    job. A crash (signals SEGV, BUS, FPE, ILL, ABRT) shows the stacks of Python. Collective over: none.
    """
    process = os.getpid()
    _show_crashes()

    def main_thread(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _end(world, place, noted, error, "")

    def other_thread(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0)):
            _end(world, place, noted, error, f", in thread {failed.thread.name if failed.thread else '?'}")

    def at_exit() -> None:
        if world.size > 1 and not world.left and os.getpid() == process:
            text = f"{_title(world, place)}: this rank exits while the others may wait for it; all ranks are ended."
            _say(text)
            noted(1, text)
            world.abort(1)

    sys.excepthook = main_thread
    threading.excepthook = other_thread
    atexit.register(at_exit)


def _show_crashes() -> None:
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):  # a closed stderr
            faulthandler.enable(sys.__stderr__)


def _end(
    world: World, place: Callable[[], str], noted: Callable[[int, str], None], error: BaseException, thread: str
) -> None:
    """Say what happened in one write, so that the texts of several ranks do not mix, and end the job."""
    if type(error).__name__ == SECONDHAND:
        time.sleep(PATIENCE_S)
    elif isinstance(error, PhalanxError):
        time.sleep(TURN_S * min(world.rank, TURNS))
    title, code = f"{_title(world, place)}{thread}", 1
    if isinstance(error, PhalanxError):
        prefix = f"{title}: " if world.size > 1 else ""
        text, code = "\n".join(f"{prefix}{problem}" for problem in error.problems), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        text, code = f"{title}: interrupted", INTERRUPTED
    else:
        text = f"{title}:\n{''.join(traceback.format_exception(error))}"
    _say(text)
    noted(code, text)
    world.abort(code)


def _title(world: World, place: Callable[[], str]) -> str:
    return f"rank {world.rank} of {world.size} on {world.host}, {_safely(place)}"


def _safely(place: Callable[[], str]) -> str:
    try:
        return place()
    except Exception as error:  # a failure to say where must not hide what
        return f"place unknown ({error})"


def _say(text: str) -> None:
    sys.stderr.write("\n".join(map(escaped, text.rstrip("\n").split("\n"))) + "\n")
    sys.stderr.flush()
