"""Jobs that nothing stops: on two nodes, by each launcher; and those that cannot begin."""

import h5py

from tests.launch import TREE
from tests.slurm import jobs


def digits(folder):
    """The input file of the README, for one epoch."""
    text = (TREE / "inputs" / "digits.toml").read_text()
    (folder / "digits.h5").symlink_to(TREE / "inputs" / "digits.h5")
    (folder / "digits.toml").write_text(text.replace("epochs = 20", "epochs = 2"))
    return folder / "digits.toml"


def assert_learned(job, folder):
    text = job.completed()
    assert "2 ranks on 2 hosts" in text
    assert text.splitlines()[-1].endswith(f"{job.number}: done")
    assert job.restarts() == 0
    with h5py.File(folder / "results" / "digits" / "run.h5") as file:
        assert file["phases/teacher-test/metrics/accuracy"][()] > 0.8


def test_by_srun(pmix, two_hosts, tmp_path):
    job = jobs.submit(pmix, digits(tmp_path))
    assert_learned(job, tmp_path)
    assert "srun --mpi=pmix" in job.text()


def test_by_mpirun(two_hosts, tmp_path):
    job = jobs.submit(two_hosts, digits(tmp_path), environ={"PHALANX_LAUNCH": "mpirun"})
    assert_learned(job, tmp_path)
    assert "mpirun" in job.text()


def test_one_gpu_a_rank(pmix, tmp_path):
    """On devices that Slurm believes in; the run takes the processors."""
    file = digits(tmp_path)
    number = jobs.sbatch(
        pmix, tmp_path, "-N1", "--ntasks-per-node=2", "-c2", str(jobs.SCRIPTS / "run-gpu.sh"), file.name
    )
    job = jobs.Job(pmix, number, tmp_path / f"phalanx-{number}.out")
    assert "2 ranks on 1 host" in job.completed()
    assert job.shown()["TresPerTask"] == "gres:gpu:1"


def test_ranks_that_do_not_find_each_other_are_refused(slurm, tmp_path):
    job = jobs.submit(slurm, digits(tmp_path), environ={"PHALANX_LAUNCH": "srun --mpi=none"})
    assert job.end() == "FAILED"
    assert "srun started 2 ranks, but MPI sees a world of 1" in job.text()
    assert not (tmp_path / "results" / "digits" / "networks").exists()


def test_a_mistake_in_the_input_is_not_requeued(slurm, tmp_path):
    job = jobs.submit(slurm, digits(tmp_path), more=["--set", "phase.teacher.epoch=3"])
    assert job.end() == "FAILED"
    assert job.code() == 2
    assert job.restarts() == 0
    assert "epochs" in job.text()


def test_without_an_input_file(slurm, tmp_path):
    number = jobs.sbatch(slurm, tmp_path, str(jobs.SCRIPTS / "run.sh"))
    job = jobs.Job(slurm, number, tmp_path / f"phalanx-{number}.out")
    assert job.end() == "FAILED"
    assert "give an input file" in job.text()
