"""Starts faulty.py under mpirun; whatever happens, nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = Path(__file__).with_name("faulty.py")
GONE_S = 60.0  # far more than it takes, for machines under load; without our guards these jobs never end
NEVER_S = 3000.0  # a watchdog limit that plays no part
POLL_S = 0.02


def environ(folder: Path) -> dict[str, str]:
    """What a killed job would leave in /tmp and /dev/shm goes into the test's own folder."""
    own = {"TMPDIR": str(folder), "OMPI_MCA_btl_sm_backing_directory": str(folder)}
    return os.environ | own | {"PYTHONPATH": str(PROGRAM.parents[3])}


def mpirun(*command: str, ranks: int) -> list[str]:
    """The command line of a launch."""
    beside = Path(sys.executable).with_name("mpirun")
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [str(beside) if beside.exists() else "mpirun", *root, "--oversubscribe", "-np", str(ranks), *command]


class Job:
    """A launched job. Ends it when the test ends."""

    def __init__(
        self, fault: str, folder: Path, limit_s: float = NEVER_S, ranks: int = 3, where: Sequence[str] = ()
    ) -> None:
        """where: RANK, PLACE and ENGINE of faulty.py."""
        self.folder, self._ranks = folder, ranks
        words = [fault, str(folder), str(limit_s), *where]
        self._out = (folder / "out").open("w+")
        self._process = subprocess.Popen(
            mpirun(sys.executable, str(PROGRAM), *words, ranks=ranks),
            stdout=self._out,
            stderr=self._out,
            env=environ(folder),
            start_new_session=True,
        )

    def pids(self) -> list[int]:
        """Process numbers of the ranks, once all have started."""
        self._await(lambda: len(self._started()) == self._ranks, "the ranks did not start")
        return self._started()

    def misbehaves(self) -> None:
        """Wait until the fault is about to happen."""
        self._await((self.folder / "misbehaves").exists, "nothing has gone wrong")

    def text(self) -> str:
        """What has been printed up to now."""
        self._out.flush()
        return Path(self._out.name).read_text(errors="replace")

    def code(self) -> int:
        """The exit code of the launcher, after every rank is gone."""
        pids = self.pids()
        code = self._process.wait(timeout=GONE_S)
        self._await(lambda: not any(map(alive, pids)), "ranks are still there")
        return code

    def end(self) -> None:
        """Whatever the test found, nothing of it stays."""
        if self._process.poll() is None:
            for pid in filter(alive, self._started()):
                os.kill(pid, signal.SIGKILL)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._out.close()

    def _started(self) -> list[int]:
        texts = [path.read_text() for path in sorted(self.folder.glob("rank*.pid"))]
        return [int(text) for text in texts if text]

    def _await(self, arrived: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + GONE_S
        while not arrived():
            assert time.monotonic() < end, f"{otherwise}:\n{self.text()}"
            time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """A process that is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
