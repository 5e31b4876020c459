"""Several programs started that do not see each other."""

import pytest

from app.parallel import launcher

LIBRARY = "Open MPI v5.0.11"
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    "environ",
    [
        {"PMI_SIZE": "4", "PMI_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4"},
        STEP | {"SLURM_NTASKS": "4"},
        STEP | {"SLURM_NTASKS": "9", "SLURM_STEP_NUM_TASKS": "4"},
    ],
)
def test_four_started_and_one_seen_is_refused(environ):
    text = launcher.problem(environ, 1, LIBRARY)
    assert text is not None
    assert "started 4 ranks" in text
    assert LIBRARY in text


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},  # a batch script in which nothing was started yet
        {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "4294967291", "SLURM_PROCID": "0"},  # the same, said otherwise
        {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"},  # an interactive shell of salloc
        STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
        STEP | {"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "1"},  # mpirun -np 1 on a node of a larger job
    ],
)
def test_one_started_is_fine(environ):
    assert launcher.problem(environ, 1, LIBRARY) is None


def test_a_world_of_the_right_size_is_fine():
    assert launcher.problem({"PMI_SIZE": "4"}, 4, LIBRARY) is None


def test_srun_is_told_which_plugin_to_use():
    assert "--mpi=pmix" in (launcher.problem(STEP | {"SLURM_NTASKS": "4"}, 1, LIBRARY) or "")
    assert "mpiexec of that library" in (launcher.problem({"OMPI_COMM_WORLD_SIZE": "2"}, 1, "MPICH 4.2") or "")
