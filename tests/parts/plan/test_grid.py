"""Replicas x stages: every rank, stage and chunk has its place."""

import re

import pytest

from app.plan.grid import Grid, grid_problems


@pytest.mark.parametrize("grid", [Grid(1), Grid(4), Grid(6, 3), Grid(8, 2, 3), Grid(12, 4, 2)])
def test_every_rank_and_chunk_has_one_place(grid):
    places = [(grid.replica(rank), grid.stage(rank)) for rank in range(grid.ranks)]
    assert sorted(places) == [(r, s) for r in range(grid.replicas) for s in range(grid.stages)]
    assert [grid.rank(*place) for place in places] == list(range(grid.ranks))
    held = [chunk for stage in range(grid.stages) for chunk in grid.chunks_of(stage)]
    assert sorted(held) == list(range(grid.chunks))
    assert all(chunk in grid.chunks_of(grid.stage_of(chunk)) for chunk in held)


@pytest.mark.parametrize(("ranks", "stages"), [(4, 3), (1, 2), (7, 2), (12, 5)])
def test_what_is_advised_works(ranks, stages):
    [problem] = grid_problems(ranks, stages)
    assert f"stages = {stages} does not divide {ranks} ranks" in problem
    assert "replicas x stages = ranks" in problem
    advised = re.findall(r"(\d+) \((\d+) x (\d+)\)", problem)
    assert advised
    for fitting, replicas, factor in advised:
        assert fitting == factor
        assert int(replicas) * int(factor) == ranks
        assert not grid_problems(ranks, int(fitting))
    start = re.findall(r"\d+", problem.partition("or start")[2])
    assert start
    assert not any(grid_problems(int(count), stages) for count in start)


def test_no_problem():
    assert not grid_problems(6, 3)
