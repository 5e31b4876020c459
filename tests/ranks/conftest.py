"""MPI reads its settings once, when pytest-mpi imports it; the ranks under test are set up like those of a run."""

import os

import pytest

from app.parallel import environment

environment.prepare(os.environ)

SCHEDULES = [("1f1b", 1), ("gpipe", 1), ("interleaved", 1), ("interleaved", 2)]  # and chunks a stage


@pytest.fixture(scope="module")
def here():
    """The world."""
    from app.parallel import world

    return world.start()


@pytest.fixture(scope="module")
def group(here):
    """All ranks."""
    return here.group(0, here.rank)


@pytest.fixture(params=SCHEDULES, ids=lambda given: f"{given[0]} x {given[1]}")
def scheduled(request, group):
    """How a pipeline over all ranks is played: every schedule, one or two chunks a stage."""
    schedule, chunks = request.param
    if chunks > 1 and group.size == 1:
        pytest.skip("one stage has one chunk")
    return {"schedule": schedule, "chunks": chunks}
