"""How far the clocks of the ranks are apart."""

import os
from time import perf_counter

import numpy as np

from app.parallel.group import Group
from app.parallel.world import World

ROUNDS = 50
TAG = 4711


def offsets(group: Group | World) -> list[float]:
    """Seconds to add to each rank's `time.perf_counter` to get rank 0's, by rank. Collective over: the group.

    Ranks of one host share a clock (Linux: CLOCK_MONOTONIC), so one rank of each further host is asked, several times;
    the answer with the shortest round trip counts and is wrong by at most half of it (Cristian, 1989).
    """
    hosts = group.allgather(_host())
    by_host = {hosts[0]: 0.0}
    for rank, host in enumerate(hosts):
        if host in by_host:
            continue
        by_host[host] = 0.0
        if group.rank == 0:
            by_host[host] = _ask(group, rank)
        elif group.rank == rank:
            _answer(group)
    found: list[float] = group.comm.bcast([by_host[host] for host in hosts])
    return found


def _ask(group: Group | World, rank: int) -> float:
    """Seconds to add to that rank's clock to get ours."""
    theirs = np.empty(1)
    least, offset = float("inf"), 0.0
    for _ in range(ROUNDS):
        asked = perf_counter()
        group.comm.Send(theirs, rank, TAG)
        group.comm.Recv(theirs, rank, TAG)
        answered = perf_counter()
        if answered - asked < least:
            least, offset = answered - asked, (asked + answered) / 2 - float(theirs[0])
    return offset


def _answer(group: Group | World) -> None:
    ours = np.empty(1)
    for _ in range(ROUNDS):
        group.comm.Recv(ours, 0, TAG)
        ours[0] = perf_counter()
        group.comm.Send(ours, 0, TAG)


def _host() -> str:
    return os.uname().nodename
