"""Phases as jobs that follow each other."""

import pytest

from tests.runs import made, outcome
from tests.slurm import jobs


@pytest.fixture
def file(tmp_path):
    """An input file of three phases: net, check, test."""
    inputs = made.features(6)
    made.write_data(tmp_path / "data.h5", inputs, made.labels(inputs))
    check = {"kind": "evaluate", "name": "check", "part": "validation"}
    network = {"kind": "mlp", "widths": [8]}
    return made.write_input(tmp_path / "input.toml", network, {}, {"file": "data.h5"}, after=[check])


def chain(slurm, file, *links):
    """What chain.sh returned and wrote, and its jobs."""
    ended = slurm.tried(str(jobs.SCRIPTS / "chain.sh"), file.name, *links, folder=file.parent)
    numbers = [line.split() for line in ended.stdout.splitlines()]
    return ended, [jobs.Job(slurm, number, file.parent / f"phalanx-{name}-{number}.out") for number, name in numbers]


def test_three_jobs_with_resources_of_their_own(pmix, file):
    ended, (net, check, test) = chain(
        pmix, file, "net: -N 2 --ntasks-per-node=1", "check", "test: -N 1 --ntasks-per-node=2"
    )
    assert ended.returncode == 0
    assert "2 ranks on 2 hosts" in net.completed()
    assert "check: evaluate begins" not in net.text()
    assert "1 rank on 1 host" in check.completed()
    assert "net: done on an earlier start, skipped" in check.text()
    assert "test: evaluate begins" not in check.text()
    assert "2 ranks on 1 host" in test.completed()
    assert outcome.metrics(file.with_suffix(""))["samples"] > 0


def test_a_broken_link_cancels_the_rest(pmix, file):
    ended, (first, *rest) = chain(pmix, file, "nett: -N 2", "check", "test")
    assert ended.returncode == 0
    assert first.end() == "FAILED"
    assert "no phase is named 'nett'" in first.text()
    assert [job.end() for job in rest] == ["CANCELLED", "CANCELLED"]


def test_a_link_that_slurm_refuses(pmix, file):
    ended, (first,) = chain(pmix, file, "net", "check: -p none", "test")
    assert ended.returncode == 1
    assert "check: not submitted, so the jobs before it are cancelled" in ended.stderr
    assert first.end() == "CANCELLED"
