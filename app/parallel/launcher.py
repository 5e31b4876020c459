"""What the launcher says: how many ranks it started, so that N lonely programs are not taken for a world of N."""

from collections.abc import Mapping
from typing import NamedTuple

# A batch script and an interactive shell run in steps of their own; these numbers are not parallel steps.
SLURM_SPECIAL_STEPS = {"4294967291", "4294967290", "4294967292", "4294967293", "4294967294"}

# Variable with the number of ranks -> who sets it. The first one that is set decides (the innermost launcher first).
SIZES = (
    ("OMPI_COMM_WORLD_SIZE", "the mpirun of Open MPI"),
    ("MV2_COMM_WORLD_SIZE", "the launcher of MVAPICH2"),
    ("PMI_SIZE", "a PMI launcher (the mpiexec of MPICH or Intel MPI, or srun --mpi=pmi2)"),
    ("FLUX_JOB_SIZE", "flux run"),
)


class Launch(NamedTuple):
    """Number of ranks the launcher says it started, and what launcher that is."""

    size: int
    launcher: str


def read(environ: Mapping[str, str]) -> Launch | None:
    """What the launcher said, or None for a program started on its own. Collective over: none."""
    for name, launcher in SIZES:
        if environ.get(name, "").isdigit():
            return Launch(int(environ[name]), launcher)
    return _slurm_step(environ)


def _slurm_step(environ: Mapping[str, str]) -> Launch | None:
    """A parallel step of Slurm; the batch script's own step is none, whatever SLURM_NTASKS says there."""
    step = environ.get("SLURM_STEP_ID", "")
    if "SLURM_PROCID" not in environ or not step or step in SLURM_SPECIAL_STEPS:
        return None
    tasks = environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS", "")
    return Launch(int(tasks), "srun") if tasks.isdigit() else None


def problem(environ: Mapping[str, str], size: int, library: str) -> str | None:
    """The sentence for N singletons: the launcher started several ranks and MPI sees one. None when all is well."""
    launch = read(environ)
    if launch is None or launch.size <= 1 or size > 1:
        return None
    return (
        f"{launch.launcher} started {launch.size} ranks, but MPI sees a world of 1: each of them would run the whole "
        f'job on its own. mpi4py here uses "{library}". {_advice(launch, library)} phalanx doctor shows both.'
    )


def _advice(launch: Launch, library: str) -> str:
    if launch.launcher == "srun" or "srun" in launch.launcher:
        return (
            "Try srun --mpi=pmix (srun --mpi=list shows what this Slurm has), or mpirun of the same MPI library "
            "inside the batch script."
        )
    if "Open MPI" in library:
        return "Start with the mpirun of this Open MPI: the one beside this Python, or the loaded module's."
    return f"Use the mpiexec of that library, or rebuild mpi4py with the MPI that {launch.launcher} belongs to."
