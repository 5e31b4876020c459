"""Which jobs the script requeues, and which not; time limits run out beside the other tests of this file."""

import re

import pytest

from tests.slurm import jobs

LONG = 340  # steps: 68 s of sleep, more than in any three lives of a job that is stopped as below
SHORT = 40
STUCK = """SEEN["all"] = SEEN.get("all", 0) + 1
            time.sleep(300 if SEEN["all"] == 21 and "SLURM_RESTART_COUNT" not in os.environ else self.sleep_s)"""

# All ranks of the first life that finds a checkpoint.
CRASH = """
LIFE = os.environ.get("SLURM_RESTART_COUNT", "0")
CRASHED = FILE.with_name("crashed")
if not LOADED and any(FILE.parent.glob("input/checkpoints/net/*.h5")):
    if not CRASHED.exists():
        CRASHED.write_text(LIFE)
    if CRASHED.read_text() == LIFE:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def limited(pmix, tmp_path_factory):
    """A job that Slurm sends USR1 5 to 35 s after its first start, and some 20 s after each of the others."""
    file = jobs.write(tmp_path_factory.mktemp("limited"), steps=LONG)
    return file, jobs.submit(pmix, file, (*jobs.TWO_NODES, "--time=1", "--signal=B:USR1@25"))


@pytest.fixture(scope="module")
def overdue(pmix, tmp_path_factory):
    """A job whose ranks get stuck in their third epoch, the first time, and are at work when its time is over."""
    file = jobs.write(tmp_path_factory.mktemp("overdue"), steps=SHORT)
    own = file.with_name("own.py")
    own.write_text(own.read_text().replace("time.sleep(self.sleep_s)", STUCK))
    return file, jobs.submit(pmix, file, (*jobs.TWO_NODES, "--time=1", "--signal=B:USR1@5"))


def test_no_progress_fails_after_one_requeue(pmix, limited, overdue, tmp_path):
    job = jobs.submit(pmix, jobs.write(tmp_path, steps=5), more=["--set", "run.stop_after=0.001"])
    assert job.end() == "FAILED"
    assert job.code() == 1
    assert job.restarts() == 1
    assert "no progress in this life and the one before it: not requeued" in job.text()


def test_one_life_without_progress_is_not_the_end(pmix, limited, overdue, tmp_path, straight):
    """Of a job that has made some: MPI itself may crash once, before the application says a word."""
    file = jobs.write(tmp_path, steps=SHORT)
    own = file.with_name("own.py")
    own.write_text(own.read_text() + CRASH)
    job = jobs.submit(pmix, file)
    job.until("net epoch 2/")
    job.signal("USR1")
    text = job.completed()
    assert job.restarts() >= 2, text  # more where MPI did crash
    assert "no progress in this life, but in the one before it" in text
    jobs.assert_same(file, straight(SHORT))


def test_no_more_requeues_than_allowed(two_hosts, limited, overdue, tmp_path):
    """And mpirun, as srun in the other tests, hands the signal on to the ranks."""
    environ = {"PHALANX_RESTARTS": "0", "PHALANX_LAUNCH": "mpirun"}
    job = jobs.submit(two_hosts, jobs.write(tmp_path, steps=50), environ=environ)
    job.until("net epoch 1/")
    job.signal("USR1")
    assert job.end() == "FAILED"
    assert job.restarts() == 0
    assert "is saved" in job.text()
    assert "requeued 0 times, PHALANX_RESTARTS allows no more" in job.text()


def test_a_site_that_forbids_it(pmix, limited, overdue, tmp_path):
    job = jobs.submit(pmix, jobs.write(tmp_path, steps=50), (*jobs.TWO_NODES, "--no-requeue"))
    job.until("net epoch 1/")
    job.signal("USR1")
    assert job.end() == "FAILED"
    assert job.code() == 75
    assert job.restarts() == 0
    assert "Slurm refuses to requeue" in job.text()


def test_the_file_stop_holds_a_job(pmix, limited, overdue, tmp_path):
    file = jobs.write(tmp_path, steps=50)
    job = jobs.submit(pmix, file)
    job.until("net epoch 1/")
    (file.with_suffix("") / "stop").touch()
    assert job.end() == "FAILED"
    assert job.code() == 75
    assert job.restarts() == 0
    assert "is saved" in job.text()
    assert "stopped by the file stop in the run folder: not requeued" in job.text()


def test_an_error_is_not_requeued(pmix, limited, overdue, tmp_path):
    file = jobs.write(tmp_path, steps=50)
    own = tmp_path / "own.py"
    own.write_text(own.read_text().replace("time.sleep(self.sleep_s)", "raise RuntimeError('spilt milk')"))
    job = jobs.submit(pmix, file)
    assert job.end() == "FAILED"
    assert job.code() > 0
    assert job.restarts() == 0
    assert "spilt milk" in job.text()
    assert re.search(r"failed, code \d+: not requeued", job.text())


def test_cancelled_stays_cancelled_and_the_next_job_goes_on(pmix, limited, overdue, tmp_path, straight):
    file = jobs.write(tmp_path, steps=SHORT)
    job = jobs.submit(pmix, file)
    job.until("net epoch 2/")
    job.cancel()
    assert job.end() == "CANCELLED"
    assert job.restarts() == 0
    again = jobs.submit(pmix, file)
    assert re.search(jobs.GOES_ON, again.completed())
    jobs.assert_same(file, straight(SHORT))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_time_limit(limited, straight):
    file, job = limited
    text = job.completed(400)
    assert job.restarts() >= 3, text
    assert len(re.findall("signal USR1", text)) >= 3
    assert len(re.findall(jobs.GOES_ON, text)) >= 3
    jobs.assert_same(file, straight(LONG))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ranks_that_do_not_stop_in_time(overdue, straight):
    """The job goes on from a checkpoint of before, although Slurm has ended it."""
    file, job = overdue
    text = job.completed(400)
    assert job.restarts() >= 1, text
    assert "the ranks have not stopped within 15 s" in text
    assert re.search(jobs.GOES_ON, text)
    jobs.assert_same(file, straight(SHORT))
