"""Jobs that lose their nodes go on by themselves, to bitwise the same network as jobs that nothing stops."""

import re

from tests.slurm import jobs

STEPS = 40  # enough to be still at work in the second epoch of eight


def submit(slurm, folder, **environ):
    """A job in its second epoch, and its input file."""
    file = jobs.write(folder, steps=STEPS)
    job = jobs.submit(slurm, file, environ=environ)
    job.until("net epoch 2/")
    return job, file


def assert_restarted(job, file, straight, restarts=(1,)):
    text = job.completed()
    assert job.restarts() in restarts
    assert len(re.findall(jobs.GOES_ON, text)) == job.restarts()
    jobs.assert_same(file, straight(STEPS))


def test_preemption(pmix, tmp_path, straight):
    job, file = submit(pmix, tmp_path)
    number = jobs.sbatch(pmix, tmp_path, "-p", "urgent", "-N2", "--exclusive", "--wrap=sleep 1")
    assert jobs.Job(pmix, number, tmp_path / f"slurm-{number}.out").end() == "COMPLETED"
    assert_restarted(job, file, straight)
    assert "SIGTERM arrived" in job.text()
    assert "requeued; it goes on where it stopped" in job.text()


def test_a_node_goes_down(two_hosts, pmix, tmp_path, straight):
    """Slurm itself requeues."""
    job, file = submit(pmix, tmp_path)
    pmix.kill_node("n2")
    pmix.command("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    pmix.start_node("n2")
    pmix.command("scontrol", "update", "nodename=n2", "state=resume")
    assert_restarted(job, file, straight)


def test_the_node_of_the_script_goes_down(two_hosts, pmix, tmp_path, straight):
    job, file = submit(pmix, tmp_path)
    pmix.kill_node("n1")
    pmix.command("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    pmix.start_node("n1")
    pmix.command("scontrol", "update", "nodename=n1", "state=resume")
    assert_restarted(job, file, straight)


def test_a_node_is_lost_and_mpirun_says_all_is_well(two_hosts, tmp_path, straight):
    """The script requeues, since the application's last word is missing."""
    job, file = submit(two_hosts, tmp_path, PHALANX_LAUNCH="mpirun")
    two_hosts.kill_node("n2")
    job.until("requeued; it goes on where it stopped")
    two_hosts.start_node("n2")
    # Slurm may still owe the node the end of the first life, and then ends the second one there.
    assert_restarted(job, file, straight, restarts=(1, 2))
    assert "unfinished, code 0" in job.text()
