"""A quantum layer in training: forward and all gradients of a batch, beside PennyLane's simulators.

Five strongly entangling layers after an embedding of n angles, Z of every qubit; the same circuit, inputs and angles in
float32, outputs and gradients compared before anything is timed. Interleaved, ratios of the same round.

    python -m benchmarks.quantum_layer [--rounds 7] [--threads 1 2] [--qubits 4 8 10 12] [--batches 64 256]
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from itertools import product
from time import perf_counter

import torch
from torch import Tensor

from app.networks.quantum import QuantumLayer
from benchmarks.interleave import Ratio, last_line, ratio, rotated

LAYERS = 5
SLOW_S = 3.0  # a peer this slow in its first call has one round
Step = Callable[[], list[Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--qubits", type=int, nargs="+", default=[4, 8, 10, 12])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--peers", nargs="+", default=["default.qubit", "lightning.qubit"])
    args = parser.parse_args()
    try:
        import pennylane
    except ImportError:
        sys.exit("PennyLane is not installed, and it is what is compared with: pip install pennylane")
    ratios: dict[str, Ratio] = {}
    print("threads qubits batch  ours ms  " + "  ".join(f"{peer + ' ms':>18}  ratio" for peer in args.peers))
    for threads, qubits, batch in product(args.threads, args.qubits, args.batches):
        torch.set_num_threads(threads)
        times = case(qubits, batch, args.rounds, args.peers)
        ours = times.pop("ours")
        line = f"{threads:7} {qubits:6} {batch:5} {1e3 * statistics.median(ours):8.2f}"
        for peer, theirs in times.items():
            found = ratio(ours[: len(theirs)], theirs, f"PennyLane {peer}")
            ratios[f"{threads} threads, {qubits} qubits, batch {batch}, {peer}"] = found
            line += f"  {1e3 * statistics.median(theirs):18.1f}  {found.median:5.3f}"
        print(line, flush=True)
    print()
    print(last_line("quantum_layer", ratios, {"torch": torch.__version__, "pennylane": pennylane.__version__}))


def case(qubits: int, batch: int, rounds: int, peers: list[str]) -> dict[str, list[float]]:
    """Seconds of each round by contender."""
    torch.manual_seed(5)
    layer = QuantumLayer(qubits, LAYERS)
    inputs = torch.randn(batch, qubits, requires_grad=True)
    steps: dict[str, Step] = {"ours": lambda: gradients(layer(inputs), inputs, layer.angles)}
    steps |= {peer: pennylane_step(peer, qubits, inputs, layer.angles) for peer in peers}
    expected, counts = steps["ours"](), dict.fromkeys(steps, rounds)
    for name, step in steps.items():
        begin = perf_counter()
        found = step()
        if perf_counter() - begin > SLOW_S:
            counts[name] = 1
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.float(), other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in rotated(list(steps), number):
            if len(times[name]) < counts[name]:
                begin = perf_counter()
                steps[name]()
                times[name].append(perf_counter() - begin)
    return times


def gradients(outputs: Tensor, inputs: Tensor, angles: Tensor) -> list[Tensor]:
    """The outputs (B, n), and the gradients of their weighted sum by inputs and angles."""
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return [outputs.detach(), *torch.autograd.grad((outputs * weights).sum(), [inputs, angles])]


def pennylane_step(name: str, qubits: int, inputs: Tensor, angles: Tensor) -> Step:
    """The same circuit: broadcast over the batch and differentiated by torch, or sample by sample by its adjoint."""
    import pennylane

    device = pennylane.device(name, wires=qubits)
    method = "backprop" if name == "default.qubit" else "adjoint"

    @pennylane.qnode(device, interface="torch", diff_method=method)
    def circuit(samples: Tensor, weights: Tensor) -> list[object]:
        pennylane.AngleEmbedding(samples, wires=range(qubits), rotation="X")
        pennylane.StronglyEntanglingLayers(weights, wires=range(qubits))
        return [pennylane.expval(pennylane.PauliZ(qubit)) for qubit in range(qubits)]

    return lambda: gradients(torch.stack(list(circuit(inputs, angles)), 1), inputs, angles)


if __name__ == "__main__":
    main()
