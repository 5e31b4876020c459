"""Clocks of ranks that differ by known seconds."""

from time import perf_counter

import pytest

from app.parallel import clock, world

pytestmark = pytest.mark.mpi

APART_S = 1000.0
ERROR_S = 5.0  # even a rank that has to wait long for its core


@pytest.fixture(scope="module")
def here():
    return world.start()


@pytest.fixture
def host_of(here, monkeypatch):
    """Put the ranks on hosts of this number, each with a clock that is ahead of the one before."""

    def host_of(host):
        monkeypatch.setattr(clock, "_host", lambda: f"node{host}")
        monkeypatch.setattr(clock, "perf_counter", lambda: perf_counter() + APART_S * host)

    return host_of


def test_ranks_of_one_host_share_its_clock(here):
    assert clock.offsets(here) == [0.0] * here.size


def test_every_rank_on_a_host_of_its_own(here, host_of):
    host_of(here.rank)
    found = clock.offsets(here)
    assert found[0] == 0.0
    assert found == pytest.approx([-APART_S * rank for rank in range(here.size)], abs=ERROR_S)
    assert here.allgather(found) == [found] * here.size


def test_ranks_of_a_further_host_have_the_same_offset(here, host_of):
    """Hosts of two ranks, dealt out in turn."""
    hosts = [rank % max(1, here.size // 2) for rank in range(here.size)]
    host_of(hosts[here.rank])
    found = clock.offsets(here.group(0, here.rank))
    assert found == pytest.approx([-APART_S * host for host in hosts], abs=ERROR_S)
    assert len(set(found)) == len(set(hosts))
