"""One run folder, one job: who holds it is named, and the file of a dead job blocks nobody."""

import json
import os
import subprocess

import pytest

from app.errors import ArtifactError, MachineError
from app.storage import lock
from app.storage.lock import Lock, held, process


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock.json"


@pytest.fixture
def other():
    """A process that lives."""
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started
        started.kill()


def held_by(path, pid, **more):
    path.write_text(json.dumps({"host": "n1", "pid": pid, "since": "noon", "job": "", **process(pid), **more}))


def never(number):
    raise AssertionError("the batch system need not be asked")


def silent(text):
    raise AssertionError(text)


def test_taken_and_left(path):
    mine = Lock("", never)
    mine.take(path, silent)
    assert held(path)["pid"] == os.getpid()
    with pytest.raises(ArtifactError, match=f"another run is at work there: process {os.getpid()} on host"):
        Lock("", never).take(path, silent)
    mine.leave()
    assert os.listdir(path.parent) == []


def test_a_process_of_this_machine_that_lives(path, other):
    held_by(path, other.pid)
    with pytest.raises(ArtifactError, match=f"process {other.pid} on host n1, since noon"):
        Lock("7", never).take(path, silent)


def test_a_process_of_this_machine_that_is_dead(path, other):
    held_by(path, other.pid)
    other.kill()
    other.wait()
    assert held(path) is None
    Lock("", never).take(path, silent)
    assert held(path)["pid"] == os.getpid()


def test_a_number_that_another_process_has_now(path, other):
    held_by(path, other.pid, started="1")
    Lock("", never).take(path, silent)


@pytest.mark.parametrize("runs", [True, False])
def test_a_job_on_another_host_is_asked_for(path, other, runs):
    asked = []
    held_by(path, other.pid, boot="another", job="12")
    mine = Lock("13", lambda number: asked.append(number) or runs)
    if runs:
        with pytest.raises(ArtifactError, match="job 12"):
            mine.take(path, silent)
    else:
        mine.take(path, silent)
    assert asked == ["12"]


def test_the_same_job_requeued_goes_on_at_once(path, other):
    held_by(path, other.pid, boot="another", job="12")
    Lock("12", never).take(path, silent)


@pytest.mark.parametrize("alive", [True, False])
def test_without_a_batch_system_signs_of_life_decide(path, other, alive, monkeypatch):
    said = []
    held_by(path, other.pid, boot="another")
    monkeypatch.setattr(lock, "SILENCE_S", 2.5)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.utime(path) if alive else None)
    if alive:
        with pytest.raises(ArtifactError, match="another run is at work"):
            Lock("", never).take(path, said.append)
    else:
        Lock("", never).take(path, said.append)
    assert "looking for 2 s whether it is still at work" in said[0]


def test_a_file_that_says_nothing_is_looked_at_too(path, monkeypatch):
    path.write_text("{")
    monkeypatch.setattr(lock, "SILENCE_S", 0.1)
    Lock("", never).take(path, lambda text: None)
    assert held(path)["pid"] == os.getpid()


def test_signs_of_life(path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    mine = Lock("", never)
    mine.take(path, silent)
    os.utime(path, (0, 0))
    while os.stat(path).st_mtime == 0:
        pass  # pytest's limit ends this when nothing comes
    mine.leave()


def test_what_is_not_ours_any_more_is_left(path, other):
    mine = Lock("", never)
    mine.take(path, silent)
    held_by(path, other.pid)
    mine.leave()
    assert held(path)["pid"] == other.pid


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(MachineError, match="cannot be written"):
        Lock("", never).take(tmp_path / "missing" / "lock.json", silent)
