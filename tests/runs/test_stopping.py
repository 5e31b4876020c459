"""A run is asked to stop: it saves its state, says 75, and goes on later to the numbers of a run never stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.launch import ALONE, TREE, Job, completed
from tests.runs import fragile, outcome

STOPPED = 75
SLEEP_S = 0.02  # of each microbatch: 20 steps take about two seconds
SAVED = r"stopped: (.+); the state of net at epoch (\d+), step (\d+), is saved. The same command goes on."


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run that nothing stops, by ranks and settings; each made once."""
    folders = {}

    def once(ranks, *settings):
        key = (ranks, *settings)
        if key not in folders:
            folder = tmp_path_factory.mktemp("straight")
            completed(fragile.write(folder), ranks, *settings)
            folders[key] = folder / "input"
        return folders[key]

    return once


@pytest.fixture
def file(tmp_path):
    return fragile.write(tmp_path, SLEEP_S)


def status(file, *options):
    done = subprocess.run(
        [sys.executable, "-m", "app", "status", str(file), *options],
        env=os.environ | {"PYTHONPATH": str(TREE)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stopped_by(file, ranks, ask, *settings, pattern=r"net epoch 1/\d+ "):
    """What a run said that is asked to stop once it has printed the pattern."""
    with Job(file, ranks, *settings) as job:
        assert job.until(pattern), job.text()
        ask(job)
        ended = job.wait()
    assert ended.code == STOPPED, ended.text
    assert "Traceback" not in ended.text
    return ended.text


def send(number):
    return lambda job: job.process.send_signal(number)


@pytest.mark.parametrize(
    ("ranks", "settings"),
    [
        (ALONE, ()),
        (2, ()),
        (3, ()),
        (2, ("grid.stages=2",)),
        (4, ("grid.stages=2",)),
        (2, ('grid.allreduce="horovod"',)),
    ],
)
def test_a_signal_stops_every_grid_and_the_rest_is_the_same_to_the_last_bit(ranks, settings, file, straight):
    text = stopped_by(file, ranks, send(signal.SIGUSR1), *settings)
    reason, epoch, step = re.search(SAVED, text).groups()
    assert reason.startswith("SIGUSR1 arrived")
    assert 1 <= int(epoch) <= 4
    assert len(re.findall(SAVED, text)) == 1, "one rank speaks"
    state, place = status(file, "--brief").split()
    assert state == "stopped"
    went_on = completed(file, ranks, *settings)
    assert f"goes on from its checkpoint at epoch {epoch}, step {step}" in went_on
    outcome.assert_same_run(file.with_suffix(""), straight(ranks, *settings))
    assert status(file, "--brief").split()[0] == "done"
    assert status(file, "--brief").split()[1] != place


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all(rank, file):
    def ask(job):
        (pid,) = job.pids(rank)
        os.kill(pid, signal.SIGTERM)

    text = stopped_by(file, 2, ask)
    assert re.search(SAVED, text)[1] == ("SIGTERM arrived on rank 1" if rank else "SIGTERM arrived")
    said = rf"rank {rank} of 2 on \S+, phase net, epoch \d+, step \d+, .*: SIGTERM arrived"
    assert re.search(said, text), "who asks can see where the run was"


def test_a_file_stops_it_and_holds_it(file):
    folder = file.with_suffix("")
    long = "phase.net.epochs=1000"  # the file is looked for once a second
    text = stopped_by(file, 2, lambda job: (folder / "stop").touch(), long)
    assert re.search(SAVED, text)[1] == f"{folder}/stop was found"
    assert status(file, "--brief").startswith("held ")
    # Whoever starts it again wants it to go on.
    stopped_by(file, 2, send(signal.SIGUSR1), long, pattern="goes on from its checkpoint")
    assert not (folder / "stop").exists()


def test_its_time_is_up(file):
    limit = ("run.stop_after=0.6", "run.stop_margin=1")
    text = stopped_by(file, ALONE, lambda job: None, "phase.net.epochs=1000", *limit)
    assert re.search(SAVED, text)[1].endswith("s are left of the time limit")
    assert "goes on from its checkpoint" in stopped_by(
        file, ALONE, send(signal.SIGTERM), "phase.net.epochs=1000", pattern="goes on"
    ), "the limit may be another one"


def test_slurm_says_when_the_time_is_up(file, tmp_path, monkeypatch):
    """Where the environment does not say it, squeue is asked; here it is a program of ours."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text("#!/bin/sh\necho 0:40\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with Job(file, ALONE, "phase.net.epochs=1000") as job:
        time.sleep(4)
        (programs / "squeue").write_text("#!/bin/sh\necho 0:01\n")
        ended = job.wait()
    assert ended.code == STOPPED, ended.text
    assert re.search(SAVED, ended.text)[1].endswith("s are left of the time limit")


@pytest.mark.parametrize("phase", list(fragile.EVERY_KIND))
def test_phases_of_every_kind_stop_and_go_on(phase, tmp_path, every_kind):
    file = fragile.write_every_kind(tmp_path, SLEEP_S / 4)
    begun = r"(?m)^\S+ \S+ info +" + phase + r": \w+ begins"
    text = stopped_by(file, 2, send(signal.SIGUSR1), pattern=begun)
    assert "is saved" in text or "has not begun" in text
    completed(file, 2)
    for name in ("net", "thin", "student"):
        outcome.assert_same_bits(outcome.weights(file.with_suffix(""), name), outcome.weights(every_kind, name))
    outcome.assert_same_bits(outcome.metrics(file.with_suffix("")), outcome.metrics(every_kind))
    outcome.assert_same_bits(quantum(file.with_suffix("")), quantum(every_kind))


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory):
    file = fragile.write_every_kind(tmp_path_factory.mktemp("every"), 0.0)
    completed(file, 2)
    return file.with_suffix("")


def quantum(folder):
    """The curve of the energies and the values found."""
    import h5py

    with h5py.File(folder / "run.h5") as h5:
        phase = h5["phases/ground"]
        return {"values": phase["values"][()], "energy": phase["steps/energy"][()]}


def test_a_run_ends_well_after_a_phase(file, straight):
    text = completed(file, 2, options=["--until", "net"])
    assert "test: evaluate begins" not in text
    assert json.loads((file.with_suffix("") / "outcome.json").read_text())["until"] == "net"
    assert status(file, "--brief") == "done 1\n"
    text = completed(file, 2)
    assert "net: done on an earlier start, skipped" in text
    outcome.assert_same_run(file.with_suffix(""), straight(2))


def test_two_runs_in_one_folder(file):
    with Job(file, 2, "phase.net.epochs=1000") as first:
        assert first.until(r"net epoch 1/\d+ ")
        with Job(file, ALONE, "phase.net.epochs=1000") as second:
            refused = second.wait()
        assert refused.code == 2
        assert "another run is at work there: process" in refused.text
        assert "at work: process" in status(file)
        assert status(file, "--brief").startswith("running ")
        first.process.send_signal(signal.SIGUSR1)
        assert first.wait().code == STOPPED, "the first one was not disturbed"
    assert status(file, "--brief").startswith("stopped ")


def test_a_killed_run_has_no_last_word_and_blocks_nobody(file):
    with Job(file, 2) as job:
        assert job.until(r"net epoch 1/\d+ ")
        job.kill(0)
        assert job.wait().code != 0
    assert (file.with_suffix("") / "lock.json").exists()
    assert status(file, "--brief").startswith("unfinished ")
    completed(file, 2)
    assert not (file.with_suffix("") / "lock.json").exists()


def test_the_last_word_of_another_launch_does_not_count(file, monkeypatch):
    monkeypatch.setenv("PHALANX_LIFE", "17.0")
    completed(file, ALONE)
    assert status(file, "--brief").startswith("done ")
    monkeypatch.setenv("PHALANX_LIFE", "17.1")
    assert status(file, "--brief").startswith("unfinished ")
    monkeypatch.delenv("PHALANX_LIFE")
    assert status(file, "--brief").startswith("done ")


def test_a_failure_is_said(file, tmp_path):
    (tmp_path / "own.py").write_text(fragile.OWN.replace('reached("training")', "raise ValueError('bad luck')"))
    with Job(file, 2) as job:
        assert job.wait().code == 1
    assert status(file, "--brief").startswith("failed ")
    assert "ValueError: bad luck" in status(file)


def test_status_says_where_every_phase_is(file):
    assert status(file, "--brief") == "new 0\n"
    with Job(file, ALONE) as job:
        assert job.until("net epoch 2/4 ")
        job.kill(0)
        job.wait()
    lines = status(file.with_suffix(""))
    assert re.search(r"net: begun, checkpoint at epoch [23], step \d", lines)
    assert "test: not begun" in lines
