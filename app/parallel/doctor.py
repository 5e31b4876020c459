"""Which MPI and Horovod are here, and whether they go together."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from app.errors import PhalanxError
from app.parallel import environment, launcher, world
from app.report.finding import Finding

PATIENCE_S = 60.0
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID", "FLUX_TASK_RANK")
# MPI ends a process that cannot start it: alone, it is tried in another one
TRY = """
import json, os
from app.parallel import environment, world
environment.prepare(os.environ)
found = world.start()
print(json.dumps([found.library, found.thread_level]))
"""


class Mpi(NamedTuple):
    """The library's version line, the thread level, and what is to be said of every rank."""

    library: str
    thread_level: str
    ranks: tuple[str, ...] = ()


def speaks() -> bool:
    """Whether this process is the one that talks, as far as the launcher says. Collective over: none."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"


def examine() -> list[Finding]:
    """MPI, its launcher and Horovod. Collective over: world, where a launcher started several ranks."""
    try:
        mpi = _together() if launcher.read(os.environ) else _alone()
    except PhalanxError as error:
        return [Finding("MPI", str(error), "load or install an MPI that mpi4py can use", serious=True), _horovod()]
    return [_library(mpi), *(Finding("rank", text) for text in mpi.ranks), _mpirun(mpi.library), _horovod()]


def _together() -> Mpi:
    """Ask MPI in this process, and every rank where it is."""
    environment.prepare(os.environ)
    found = world.start()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    own = f"{found.rank} of {found.size} on {found.host}, {found.threads} threads, cores {_ranges(cores)}"
    ranks = found.allgather(own)
    found.barrier()
    return Mpi(found.library, found.thread_level, tuple(ranks))


def _alone() -> Mpi:
    tree = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (tree, os.environ.get("PYTHONPATH", ""))))
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRY],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise PhalanxError(f"MPI did not start within {PATIENCE_S:.0f} s.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise PhalanxError(f"MPI could not be started: {last}")
    return Mpi(*json.loads(done.stdout.splitlines()[-1]))


def _library(mpi: Mpi) -> Finding:
    text = f"{mpi.library}, mpi4py {metadata.version('mpi4py')}, thread level {mpi.thread_level}"
    if mpi.thread_level == "multiple":
        return Finding("MPI", text)
    return Finding("MPI", text, 'Horovod needs thread level multiple; use an MPI built with it, or allreduce = "mpi"')


def _mpirun(library: str) -> Finding:
    """Whether the mpirun that a user would type starts ranks of the library that mpi4py uses."""
    beside = Path(sys.executable).with_name("mpirun")
    found = shutil.which("mpirun")
    use = f"start with {beside}" if beside.exists() else "start with the mpirun of that library, or with srun"
    if found is None:
        return Finding("mpirun", "none in the PATH", use)
    version = _first_line(found)
    if belongs(version, library):
        return Finding("mpirun", f"{found}, of the same library")
    return Finding("mpirun", f'{found} says "{version}", but mpi4py uses {library}', f"{use}; ranks would not meet")


def belongs(mpirun: str, library: str) -> bool:
    """Whether the version lines of an mpirun and of a library are of one MPI; for Open MPI also of one version."""
    family, other = _family(mpirun), _family(library)
    if family != other or family == "Open MPI" and _version(mpirun) != _version(library):
        return False
    return family != ""


def _family(text: str) -> str:
    lower = text.lower()
    for name, words in {
        "Open MPI": ("open mpi", "openrte", "prterun"),
        "Intel MPI": ("intel",),
        "MPICH": ("hydra", "mpich"),
    }.items():
        if any(word in lower for word in words):
            return name
    return ""


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else ""


def _first_line(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run: {error}"
    return (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0]


def _horovod() -> Finding:
    """Its version and what it was built with; torch is loaded by it."""
    if importlib.util.find_spec("horovod") is None:
        return Finding(
            "Horovod", 'not installed; gradients are summed as with allreduce = "mpi"', "make horovod builds it"
        )
    version = metadata.version("horovod")
    try:
        import horovod.torch as horovod

        parts = {"MPI": horovod.mpi_built(), "NCCL": horovod.nccl_built(), "Gloo": horovod.gloo_built()}
    except Exception as error:  # an ImportError, or what its libraries raise when they are of another torch or MPI
        why = " ".join(str(error).split())[:200]
        advice = "it was built for another torch or MPI: make horovod builds it again"
        return Finding("Horovod", f"{version} cannot be loaded: {why}", advice)
    text = f"{version}, built with {', '.join(name for name, there in parts.items() if there) or 'nothing'}"
    if not parts["MPI"]:
        return Finding("Horovod", f"{text}, without MPI", "make horovod builds it with MPI, as this program needs it")
    return Finding("Horovod", text)


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
