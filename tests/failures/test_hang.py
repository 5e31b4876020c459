"""Jobs of which one rank fails, leaves, stops or dies: all are gone soon, and the text says which rank and where."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.failures.programs.job import GONE_S, NEVER_S, Job, environ, mpirun


@pytest.fixture
def job(tmp_path):
    """Starts jobs."""
    started = []

    def start(fault, limit_s=NEVER_S):
        started.append(Job(fault, tmp_path, limit_s))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_the_job_itself_ends_well(job):
    well = job("none")
    assert well.code() == 0
    assert "rank 1" not in well.text()
    assert not (well.folder / "watchdog").exists()


def test_an_exception_on_one_rank(job):
    failed = job("exception")
    assert failed.code() == 1
    text = failed.text()
    assert "rank 1 of 3 on " in text
    assert "phase faulty, epoch 0, step 20" in text
    assert "ValueError: bad luck" in text
    assert "in misbehave" in text


def test_a_sentence_for_the_user_on_one_rank(job):
    failed = job("message")
    assert failed.code() == 2
    assert "the file is damaged" in failed.text()
    assert "Traceback" not in failed.text()


def test_an_exception_in_a_thread(job):
    failed = job("thread")
    assert failed.code() == 1
    assert "in thread reader" in failed.text()
    assert "ZeroDivisionError" in failed.text()


def test_one_rank_exits_while_the_others_wait(job):
    failed = job("exit")
    assert failed.code() != 0
    assert "rank 1 of 3" in failed.text()
    assert "this rank exits while the others may wait for it" in failed.text()


def test_a_killed_rank(job):
    """The launcher says which one, the others where."""
    failed = job("-")
    os.kill(failed.pids()[1], signal.SIGKILL)
    assert failed.code() == 137
    assert re.search(r"rank 1 with PID .* exited on\s+signal 9", failed.text())
    assert re.search(r'rank 0 of 3 on .*, phase faulty, epoch 0, step \d+, (in|after) "sum of the loss"', failed.text())


def test_a_stopped_rank(job):
    failed = job("-", limit_s=2.0)
    os.kill(failed.pids()[1], signal.SIGSTOP)
    assert failed.code() == 1
    text = failed.text()
    assert 'LOG "sum of the loss" has taken' in text
    assert "2 of 3 ranks wait in it: 0 " in text
    assert "no answer from rank 1:" in text


def test_a_rank_in_another_collective(job):
    failed = job("elsewhere", limit_s=2.0)
    assert failed.code() == 1
    text = failed.text()
    assert "sum of the loss" in text
    assert "broadcast of weights" in text
    assert "phase faulty, epoch 0, step 20" in text


def test_a_rank_that_is_busy_with_something_else(job):
    failed = job("busy", limit_s=2.0)
    assert failed.code() == 1
    text = failed.text()
    assert 'it is in no operation, the last it finished was "sum of the loss"' in text
    assert "watchdog: stacks of rank 1" in text
    assert "in misbehave" in text


def test_four_singletons_are_refused(tmp_path):
    """The ranks do not hear of the launcher's PMIx server, as with the launcher of another MPI."""
    hidden = [word for name in ("PMIX_NAMESPACE", "PMIX_RANK") for word in ("-u", name)]
    hidden += [word for version in ("", "2", "21", "3", "4", "41") for word in ("-u", f"PMIX_SERVER_URI{version}")]
    program = (
        "import os; from app.errors import MachineError; from app.parallel import environment, world\n"
        "environment.prepare(os.environ)\n"
        "try: world.start()\n"
        "except MachineError as error: print('REFUSED', error)\n"
        "else: print('a world of 1')\n"
    )
    done = subprocess.run(
        mpirun("env", *hidden, sys.executable, "-c", program, ranks=4),
        capture_output=True,
        text=True,
        timeout=GONE_S,
        env=environ(tmp_path),
    )
    refusals = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert len(refusals) == 4, done.stdout + done.stderr
    assert "started 4 ranks, but MPI sees a world of 1" in refusals[0]
