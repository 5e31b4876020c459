"""Two ranks give each other equal pieces of memory."""

import numpy as np

from app.parallel.group import Group


def swap_with(group: Group, partner: int, send: np.ndarray, receive: np.ndarray) -> None:
    """Send an array to the partner and receive one of the same size; both contiguous, different memory.

    Collective over: both partners.
    """
    group.comm.Sendrecv(send, partner, recvbuf=receive, source=partner)
