"""What Slurm says about a job; the programs that are asked are ours."""

import time

import pytest

from app.parallel import slurm


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """What squeue answers from now on."""

    def answers(script):
        program = tmp_path / "squeue"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return answers


JOB = {"SLURM_JOB_ID": "17"}


def test_the_job():
    assert slurm.job({}) is None
    assert slurm.job(JOB) == ("17", 0)
    assert slurm.job(JOB | {"SLURM_RESTART_COUNT": "3"}) == ("17", 3)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0:30", 30), ("12:00", 720), ("1:00:00", 3600), ("2-03:04:05", 183845), ("7-00:00:00", 604800)],
)
def test_the_time_that_is_left(said, seconds, squeue):
    squeue(f"echo '{said}'")
    assert slurm.ends_at(JOB, ask=True) == pytest.approx(time.time() + seconds, abs=30)


@pytest.mark.parametrize("said", ["UNLIMITED", "NOT_SET", "INVALID", "", "-1:00", "x-1:00"])
def test_no_limit(said, squeue):
    squeue(f"echo '{said}'")
    assert slurm.ends_at(JOB, ask=True) is None


def test_the_environment_is_believed_unless_it_is_asked_for_anew(squeue):
    squeue("echo 1:00")
    environ = JOB | {"SLURM_JOB_END_TIME": "123456"}
    assert slurm.ends_at(environ, ask=False) == 123456
    assert slurm.ends_at(environ, ask=True) > 123456
    squeue("exit 1")
    assert slurm.ends_at(environ, ask=True) == 123456
    assert slurm.ends_at(JOB, ask=False) is None
    assert slurm.ends_at({}, ask=True) is None


def test_whether_a_job_runs(squeue):
    squeue("echo RUNNING")
    assert slurm.runs("17") is True
    squeue("echo COMPLETED")
    assert slurm.runs("17") is False
    squeue("exit 0")
    assert slurm.runs("17") is False
    squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert slurm.runs("17") is False
    squeue("echo 'Unable to contact slurm controller' >&2; exit 1")
    assert slurm.runs("17") is None


def test_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.runs("17") is None
    assert slurm.ends_at(JOB, ask=True) is None
