"""An error on one rank ends all of them: the others would wait for it for ever."""

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

from app.errors import PhalanxError
from app.parallel.world import World

INTERRUPTED = 130  # what shells use for Ctrl-C


def install_hooks(world: World, place: Callable[[], str]) -> None:
    """From now on an uncaught exception in any thread, or an exit without world.leave(), ends all ranks.

    place: where this rank is, in words (Watchdog.where). To stderr go rank, host, place and traceback; of a
    PhalanxError only its sentences, and its exit code is the job's. Collective over: none.
    """
    process = os.getpid()

    def main_thread(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _end(world, place, error, "")

    def other_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None and not issubclass(failed.exc_type, SystemExit):
            _end(world, place, failed.exc_value, f" in thread {failed.thread.name if failed.thread else '?'}")

    def at_exit() -> None:
        if world.size > 1 and not world.left and os.getpid() == process:
            _say(f"{_title(world, place)}: this rank exits while the others may wait for it; all ranks are ended.")
            world.abort(1)

    sys.excepthook = main_thread
    threading.excepthook = other_thread
    atexit.register(at_exit)


def _end(world: World, place: Callable[[], str], error: BaseException, thread: str) -> None:
    """Say what happened in one write, so that the texts of several ranks do not mix, and end the job."""
    title = f"{_title(world, place)}{thread}"
    if isinstance(error, PhalanxError):
        prefix = f"{title}: " if world.size > 1 else ""
        _say("\n".join(f"{prefix}{problem}" for problem in error.problems))
        world.abort(error.exit_code)
    elif isinstance(error, KeyboardInterrupt):
        _say(f"{title}: interrupted")
        world.abort(INTERRUPTED)
    else:
        _say(f"{title}:\n{''.join(traceback.format_exception(error))}")
        world.abort(1)


def _title(world: World, place: Callable[[], str]) -> str:
    return f"rank {world.rank} of {world.size} on {world.host}, {_safely(place)}"


def _safely(place: Callable[[], str]) -> str:
    try:
        return place()
    except Exception as error:  # a failure to say where must not hide what
        return f"place unknown ({error})"


def _say(text: str) -> None:
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()
