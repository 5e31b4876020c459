"""Two ranks give each other equal pieces of memory."""

import numpy as np

from app.parallel.group import Group


class Swap:
    """An array on its way to the partner and one of the same size on its way here; contiguous, different memory.

    Both partners begin their swaps in the same order.
    """

    def __init__(self, group: Group, partner: int, send: np.ndarray, receive: np.ndarray) -> None:
        self._waiting = group.waiting
        self._requests = [group.comm.Irecv(receive, partner), group.comm.Isend(send, partner)]

    def wait(self) -> None:
        """Until both have arrived. Collective over: both partners."""
        with self._waiting("exchange between two ranks"):
            for request in self._requests:
                request.Wait()


def swap_with(group: Group, partner: int, send: np.ndarray, receive: np.ndarray) -> None:
    """Send an array to the partner and receive one of the same size. Collective over: both partners."""
    Swap(group, partner, send, receive).wait()
