"""Work cut into pieces for the threads of a rank; the compiled loops release the GIL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="amplitudes")


def share(work: Callable[[int, int, int], None], count: int, threads: int) -> None:
    """Call work(thread, first, last) so that all of range(count) is done, by at most `threads` threads.

    Raises what a thread raised.
    """
    threads = max(1, min(threads, count))
    if threads == 1:
        work(0, 0, count)
        return
    edges = [count * thread // threads for thread in range(threads + 1)]
    # submit, not map: the first exception must not leave others running unseen
    others = [_pool(threads).submit(work, t, edges[t], edges[t + 1]) for t in range(1, threads)]
    try:
        work(0, edges[0], edges[1])
    finally:
        errors = [error for error in (other.exception() for other in others) if error]
    if errors:
        raise errors[0]
