"""One simulator of the quantum benchmark as a process of its own, or as ranks under mpirun: answers orders until None.

python -m benchmarks.ranks.quantum_child SIMULATOR DTYPE THREADS     (started by benchmarks.quantum)
"""

from time import perf_counter

BEGUN = perf_counter()  # before any import that counts

import os  # noqa: E402
import sys  # noqa: E402
from multiprocessing.connection import Client  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

SAMPLES = 64  # amplitudes compared where not all are
ALL_BITS = 20  # up to so many qubits all amplitudes are compared


class Order(NamedTuple):
    """what: build, time, sent, gradient_values, gradient, memory or first."""

    what: str
    case: str


class Child:
    """A simulator, and the circuits built for it."""

    def __init__(self, name: str, dtype: str, threads: int) -> None:
        from benchmarks.ranks.quantum_simulators import SIMULATORS

        self.world = start_world() if "BENCHMARK_RANKS" in os.environ else None
        group = (self.world.group(0, self.world.rank),) if self.world else ()
        self.group = group[0] if group else None
        self.simulator = SIMULATORS[name](dtype, threads, *group)
        self.built: dict[str, Any] = {}
        self.ways: dict[str, str] = {}
        self.gradients: dict[str, Any] = {}

    def answer(self, order: Order) -> Any:
        """What it was asked for."""
        return getattr(self, order.what)(order.case)

    def build(self, case: str) -> tuple[str, Any]:
        """The way chosen, and amplitudes to compare: all of few qubits, else many of them and the norm."""
        from benchmarks.ranks.quantum_circuits import listed
        from benchmarks.ranks.quantum_simulators import fastest

        built = self.built[case] = self.simulator.build(listed(case))
        way = self.ways[case] = fastest(built)
        return way, compared(built.amplitudes(built.ways[way]()))

    def time(self, case: str) -> float:
        """Seconds; of ranks, from the moment when all are there."""
        from benchmarks.ranks.quantum_simulators import timed

        if self.group:
            self.group.barrier()
        return timed(self.built[case], self.ways[case])

    def sent(self, case: str) -> tuple[int, int]:
        """Bytes that this rank sent the last time, and those predicted."""
        from benchmarks.ranks.quantum_circuits import listed

        return self.simulator.done.sent_bytes, self.simulator.predicted_bytes(listed(case))

    def gradient_values(self, case: str) -> Any:
        """The gradient, to compare; the first call, which compiles."""
        from benchmarks.ranks.quantum_simulators import gradient_of

        self.gradients[case] = gradient_of(self.simulator, case)
        return self.gradients[case]()[1]

    def gradient(self, case: str) -> float:
        """Seconds."""
        begin = perf_counter()
        self.gradients[case]()
        return perf_counter() - begin

    def memory(self, case: str) -> int:
        """Bytes by which the resident set grows at most during one simulation, after a small one."""
        from benchmarks.ranks.quantum_circuits import listed
        from benchmarks.ranks.quantum_simulators import fastest

        small = self.simulator.build(listed(case.rstrip("0123456789") + "16"))
        way = fastest(small)
        built = self.simulator.build(listed(case))
        built.prepare()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        before = resident("VmRSS")
        _alive = built.ways[way]()
        return resident("VmHWM") - before

    def first(self, case: str) -> float:
        """Seconds from the start of this program to its first amplitudes."""
        from benchmarks.ranks.quantum_circuits import listed

        built = self.simulator.build(listed(case))
        built.amplitudes(next(iter(built.ways.values()))())
        return perf_counter() - BEGUN


def start_world() -> Any:
    """MPI, set up as in a run."""
    from app.parallel import environment

    environment.prepare(os.environ)
    from app.parallel import world

    return world.start()


def compared(amplitudes: Any) -> Any:
    """All, or some, of them."""
    import numpy as np

    if amplitudes.size <= 1 << ALL_BITS:
        return np.asarray(amplitudes, complex)
    # A product with fixed numbers of each of many pieces depends on every amplitude.
    pieces = np.asarray(amplitudes).reshape(SAMPLES, -1)
    weights = np.random.default_rng(1).normal(size=pieces.shape[1]).astype(pieces.real.dtype)
    return np.asarray(pieces @ weights, complex)


def resident(name: str) -> int:
    """Bytes: VmRSS now, VmHWM at most."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name + ":"))


def main() -> None:
    name, dtype, threads = sys.argv[1:]
    child = Child(name, dtype, int(threads))
    with Client(os.environ["BENCHMARK_SOCKET"]) as line:
        line.send(child.group.rank if child.group else 0)
        while (order := line.recv()) is not None:
            line.send(child.answer(order))


if __name__ == "__main__":
    main()
