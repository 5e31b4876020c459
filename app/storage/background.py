"""One thing written at a time while the caller goes on; what goes wrong there is raised here."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs one action after the other in a thread of its own. Collective over: none."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._running: Future[float] | None = None

    def start(self, action: Callable[[], object]) -> None:
        """Begin an action; `wait` for the one before has to be called first."""
        if self._running is not None:
            raise RuntimeError("the action before has not been waited for")
        self._running = self._pool.submit(_timed, action)

    def check(self) -> None:
        """Raise what the action has failed with, as soon as it has."""
        if self._running is not None and self._running.done():
            self._running.result()

    def wait(self) -> float | None:
        """Wait for the action's end: the seconds it took, None where there was none. Raises what it raised."""
        running, self._running = self._running, None
        return None if running is None else running.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


def _timed(action: Callable[[], object]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun
