"""The simulators of the quantum benchmark as children, each with threads and memory of its own, asked over a socket."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ranks.quantum_child import Order
from benchmarks.startup import launcher

MODULE = "benchmarks.ranks.quantum_child"
TREE = Path(__file__).parents[1]
# Read by OpenMP, qulacs, BLAS and numba when they are imported.
THREADS = ("OMP_NUM_THREADS", "QULACS_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Contender(NamedTuple):
    """A simulator in a precision; ranks: 0 without mpirun."""

    simulator: str
    dtype: str
    threads: int
    ranks: int = 0

    @property
    def label(self) -> str:
        """In tables."""
        return f"{self.simulator} {'c64' if self.dtype == 'complex64' else 'c128'}"


class Child:
    """The process, or processes, of one contender; by rank a line to each."""

    def __init__(self, process: "subprocess.Popen[bytes]", lines: list[Connection]) -> None:
        self.process, self.lines = process, lines

    def ask(self, what: str, case: str) -> list[Any]:
        """The answer of each rank; they work only meanwhile."""
        for line in self.lines:
            line.send(Order(what, case))
        return [line.recv() for line in self.lines]

    def end(self) -> None:
        """Let it go."""
        for line in self.lines:
            with suppress(OSError):
                line.send(None)
        self.process.wait(timeout=60)


@contextmanager
def child(contender: Contender, folder: Path) -> Iterator[Child]:
    """Started, and ended afterwards."""
    with Listener(str(folder / "socket")) as listener:
        made = start(contender, listener, folder)
    try:
        yield made
    except EOFError:
        raise SystemExit(f"{contender.label} ended early:\n{(folder / 'out').read_text()[-4000:]}") from None
    finally:
        made.end()


def start(contender: Contender, listener: Listener, folder: Path) -> Child:
    """A child that has said its ranks."""
    environ = os.environ | dict.fromkeys(THREADS, str(contender.threads)) | {"PYTHONPATH": str(TREE)}
    environ["BENCHMARK_SOCKET"] = str(listener.address)
    command = [sys.executable, "-m", MODULE, contender.simulator, contender.dtype, str(contender.threads)]
    if contender.ranks:
        environ["BENCHMARK_RANKS"] = str(contender.ranks)
        command = [*launcher(contender.ranks), *command]
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ)
    lines: dict[int, Connection] = {}
    while len(lines) < max(1, contender.ranks):
        line = accept(listener, process, folder)
        lines[line.recv()] = line
    return Child(process, [lines[rank] for rank in sorted(lines)])


def accept(listener: Listener, process: "subprocess.Popen[bytes]", folder: Path) -> Connection:
    """The next connection; a child that dies before it connects ends the benchmark with its last words."""
    listening = listener._listener._socket  # type: ignore[attr-defined]
    listening.settimeout(1.0)
    while True:
        try:
            return listener.accept()
        except TimeoutError:
            if process.poll() is not None:
                raise SystemExit(f"a child ended early:\n{(folder / 'out').read_text()[-4000:]}") from None
