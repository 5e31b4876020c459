"""One input file for each task of an array."""

from tests.runs import outcome
from tests.slurm import jobs

NAMES = ("a", "b", "c", "d")


def submit(slurm, folder, numbers, *inputs):
    """The tasks of these numbers."""
    script = str(jobs.SCRIPTS / "array.sh")
    number = jobs.sbatch(slurm, folder, f"--array={numbers}", "-N1", script, *inputs, "--set", "run.log_seconds=5")
    first, last = map(int, numbers.split("-"))
    return [
        jobs.Job(slurm, f"{number}_{task}", folder / f"phalanx-{number}_{task}.out") for task in range(first, last + 1)
    ]


def test_one_of_four_is_requeued(pmix, tmp_path):
    files = [jobs.write(tmp_path / name, steps=20) for name in NAMES]
    tasks = submit(pmix, tmp_path, "0-3", *(f"{name}/input.toml" for name in NAMES))
    tasks[2].until("net epoch 1/")
    tasks[2].signal("USR1")
    for name, task in zip(NAMES, tasks, strict=True):
        assert f"-> {tmp_path / name}" in task.completed(240)
    assert [task.restarts() for task in tasks] == [0, 0, 1, 0]
    for file in files[1:]:
        outcome.assert_same_run(file.with_suffix(""), files[0].with_suffix(""))


def test_more_tasks_than_inputs(pmix, tmp_path):
    (task,) = submit(pmix, tmp_path, "1-1", "a/input.toml")
    assert task.end() == "FAILED"
    assert "task 1 of 1 input files: they count from 0" in task.text()
