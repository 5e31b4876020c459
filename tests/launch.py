"""Starts `phalanx run` as a user does, with and without mpirun; whatever happens, nothing of it stays behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple

ALONE = 0  # a number of ranks: one, without mpirun
LIMIT_S = 180.0  # many times what any job of the tests takes, for machines under load
POLL_S = 0.01
MARK = "PHALANX_TEST_JOB"  # in the environment of every process of a job
TREE = Path(__file__).parents[1]


class Ended(NamedTuple):
    """Exit code and what all ranks printed."""

    code: int
    text: str


def run(file: Path, ranks: int, *settings: str, options: Sequence[str] = ()) -> Ended:
    """A run from its start to its end; `settings` are KEY=VALUE as for --set."""
    with Job(file, ranks, *settings, options=options) as job:
        return job.wait()


def completed(file: Path, ranks: int, *settings: str, options: Sequence[str] = ()) -> str:
    """What a run printed that must end well."""
    ended = run(file, ranks, *settings, options=options)
    assert ended.code == 0, ended.text
    return ended.text


class Job:
    """One started run; leaving the `with` block ends what is left of it."""

    def __init__(
        self,
        file: Path,
        ranks: int,
        *settings: str,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """prefix: the start of the command line. environ: variables on top; PYTHONPATH comes before the tree."""
        self._alone = ranks == ALONE
        self._mark = uuid.uuid4().hex
        self._folder = Path(tempfile.mkdtemp(prefix="phalanx-test-"))
        self._shared = _shared_folder(self._folder)
        self._out = (self._folder / "out").open("wb")
        chosen = [word for setting in settings for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [*prefix, *launcher(ranks), sys.executable, "-m", "app", "run", str(file), *chosen, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._out,
            env=self._environ(environ),
            start_new_session=True,
        )

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self.process.poll() is None:
            self.process.kill()
        for pid in self.pids():
            _kill(pid)
        self.process.wait()
        self._out.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._shared, ignore_errors=True)

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        """Ours, from this working tree; what a killed job leaves in /tmp and /dev/shm goes into folders of its own."""
        own = {MARK: self._mark, "TMPDIR": str(self._folder), "PYTHONPATH": str(TREE)}
        for part in ("btl_sm", "osc_sm"):
            own[f"OMPI_MCA_{part}_backing_directory"] = str(self._shared)
        first = {"PYTHONPATH": f"{more['PYTHONPATH']}{os.pathsep}{TREE}"} if "PYTHONPATH" in more else {}
        return os.environ | own | dict(more) | first

    def text(self) -> str:
        """What has been printed up to now."""
        return (self._folder / "out").read_text(errors="replace")

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Its end. Fails when it takes too long."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not at its end after {limit_s} s:\n{self.text()}") from None
        return Ended(code, self.text())

    def until(self, pattern: str, limit_s: float = LIMIT_S) -> bool:
        """Wait until a line printed fits the pattern; False when the job ends without one."""
        return self._until(lambda: re.search(pattern, self.text()) is not None, f"{pattern!r} printed", limit_s)

    def kill(self, rank: int, limit_s: float = LIMIT_S) -> bool:
        """kill -9 of one rank, once there is such a process; False when the job ended before."""
        found: list[int] = []
        there = self._until(lambda: bool(found.extend(self.pids(rank)) or found), f"a process of rank {rank}", limit_s)
        if not there:
            return False
        return [_kill(pid) for pid in found].count(True) > 0

    def seconds_to_be_gone(self, limit_s: float = LIMIT_S) -> float:
        """Until no process of the job is left, the launcher included."""
        begun = time.monotonic()
        while self.process.poll() is None or self.pids():
            if time.monotonic() - begun > limit_s:
                raise TimeoutError(f"processes {self.pids()} are left after {limit_s} s:\n{self.text()}")
            time.sleep(POLL_S)
        return time.monotonic() - begun

    def pids(self, rank: int | None = None) -> list[int]:
        """The job's processes that live, the launcher not counted; or those of one rank."""
        if self._alone and rank is not None:
            return [self.process.pid] if self.process.poll() is None else []
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                words = _environment(entry)
                if f"{MARK}={self._mark}" in words and (rank is None or _is_rank(words, rank)):
                    found.append(int(entry.name))
        return found

    def _until(self, arrived: Callable[[], bool], what: str, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while not arrived():
            if self.process.poll() is not None:
                return arrived()
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} within {limit_s} s:\n{self.text()}")
            time.sleep(POLL_S)
        return True


def launcher(ranks: int) -> list[str]:
    """The mpirun beside the Python of the tests, with the flags this machine needs; nothing for ALONE."""
    if ranks == ALONE:
        return []
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else "mpirun"
    flags = subprocess.run(
        [str(TREE / "install" / "mpirun-flags.sh"), mpirun, str(ranks)], capture_output=True, text=True, check=True
    )
    return [mpirun, *flags.stdout.split(), "-np", str(ranks)]


def _shared_folder(otherwise: Path) -> Path:
    """A folder in shared memory where there is one: MPI puts what ranks share into files there."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="phalanx-test-", dir=memory)) if os.access(memory, os.W_OK) else otherwise


def _environment(process: Path) -> list[str]:
    """NAME=VALUE of a process; none for those that have ended, zombies too, and for those of other users."""
    try:
        return (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _is_rank(words: Sequence[str], rank: int) -> bool:
    """False for the launcher's own processes, which have no such variable."""
    return any(f"{name}={rank}" in words for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"))


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
