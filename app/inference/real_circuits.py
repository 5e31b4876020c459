"""Quantum layers with trained angles in real numbers alone, as exported graphs know no complex ones.

A layer is a product of two kinds of steps on the real and the imaginary parts (B, N), N = 2^n amplitudes: phases by a
sample's angles, and what is the same for all samples. Rotations about x are phases between Hadamards, H RZ H; those
about y are S H RZ H S^-1. What lies between two steps with phases is one matrix of N x N where that is small, else
its layers one by one.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from app.circuits.layered import Layered, constants, parities, signs
from app.networks.quantum import QuantumLayer

WHOLE = 10  # qubits up to which all that is the same for all samples is one matrix: two of 4 MiB


def in_real_numbers_(network: nn.Module) -> list[str]:
    """Put RealCircuits in the place of quantum layers; where they were. Collective over: none."""
    found = [path for path, part in network.named_modules() if isinstance(part, QuantumLayer)]
    for path in found:
        above, _, name = path.rpartition(".")
        setattr(network.get_submodule(above), name, RealCircuit(network.get_submodule(path)))  # type: ignore[arg-type]
    return found


class RealCircuit(nn.Module):
    """Computes as the quantum layer whose angles it takes: (M, F) -> (M, outputs). For evaluation alone."""

    signs: Tensor

    def __init__(self, layer: QuantumLayer, whole: int = WHOLE) -> None:
        """whole: qubits up to which the steps between phases are one matrix."""
        super().__init__()
        self.amplitudes, self.scale = layer.embedding == "amplitude", layer.scale
        circuit, qubits = layer.circuit, layer.circuit.qubits
        weights = _weights(layer)
        self.register_buffer("signs", signs(qubits, torch.float32, torch.device("cpu")))
        repeats = circuit.layers if layer.reupload else 1
        each = circuit.layers // repeats
        self.steps = nn.ModuleList()
        for number in range(repeats):
            part = slice(number * each, (number + 1) * each)
            own = Layered(qubits, circuit.cnots[part])
            again = layer.rotation if number + 1 < repeats else None
            first = None if self.amplitudes else layer.rotation
            if qubits <= whole:
                self.steps.append(_Matrix(own, weights[part], first, again))
            else:
                self.steps.append(_Layers(own, weights[part], first, again, torch.float32))
        self.measured = _Means(layer)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.float()
        if self.amplitudes:
            norms = inputs.square().sum(1, keepdim=True).sqrt()
            first = torch.nn.functional.pad(torch.ones_like(norms), (0, inputs.shape[1] - 1))
            # A sample of zeros alone is the state |0...0>.
            real = torch.where(norms > 0, inputs / norms.clamp_min(torch.finfo(torch.float32).tiny), first)
            return self.measured(*self.steps[0](real, torch.zeros_like(real)))
        turns = (-0.5 * self.scale * inputs) @ self.signs
        cos, sin = turns.cos(), turns.sin()
        size = 1 / math.sqrt(self.signs.shape[1])
        real, imaginary = cos * size, sin * size
        for number, step in enumerate(self.steps):
            if number:
                real, imaginary = real * cos - imaginary * sin, real * sin + imaginary * cos
            real, imaginary = step(real, imaginary)
        return self.measured(real, imaginary)


class _Layers(nn.Module):
    """Layers of a circuit with what comes between them and phases: real and imaginary parts (B, N) -> the same.

    first, again: the rotation of the embedding before and after, as between it and its phases; None: there is none.
    """

    def __init__(
        self, circuit: Layered, weights: Tensor, first: str | None, again: str | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        known = constants(circuit, torch.float64, torch.device("cpu"))
        quarter = 0.25 * math.pi * (circuit.qubits - known.signs.sum(0))  # the phases of S on every qubit
        self.parts = nn.ModuleList()
        if first in ("x", "y"):
            self.parts.append(_Turn(_hadamards(known.groups), dtype))
        phases = quarter if first == "y" else torch.zeros_like(quarter)
        for number, (phi, theta, omega) in enumerate(weights.transpose(1, 2)):
            self.parts.append(_Phases(phases - 0.5 * (phi @ known.signs), dtype))
            self.parts.append(_Turn(_rotations(theta, known.groups), dtype))
            phases, source = -0.5 * (omega @ known.signs), known.sources[number]
            if source is not None:
                self.parts.append(_Moves(source))
                phases = phases[source]
        self.parts.append(_Phases(phases - quarter if again == "y" else phases, dtype))
        if again in ("x", "y"):
            self.parts.append(_Turn(_hadamards(known.groups), dtype))

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        for part in self.parts:
            real, imaginary = part(real, imaginary)
        return real, imaginary


class _Matrix(nn.Module):
    """The same as one matrix."""

    real: Tensor
    imaginary: Tensor

    def __init__(self, circuit: Layered, weights: Tensor, first: str | None, again: str | None) -> None:
        super().__init__()
        states = torch.eye(1 << circuit.qubits, dtype=torch.float64)
        layers = _Layers(circuit, weights, first, again, torch.float64)
        real, imaginary = layers(states, torch.zeros_like(states))
        self.register_buffer("real", real.float())
        self.register_buffer("imaginary", imaginary.float())

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        return real @ self.real - imaginary @ self.imaginary, real @ self.imaginary + imaginary @ self.real


class _Turn(nn.Module):
    """Real matrices on groups of qubits, the most significant first."""

    def __init__(self, matrices: Sequence[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        for number, matrix in enumerate(matrices):
            self.register_buffer(f"group{number}", matrix.to(dtype))

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        return self._one(real), self._one(imaginary)

    def _one(self, states: Tensor) -> Tensor:
        size, left = states.shape[1], 1
        for matrix in self.buffers():
            own = len(matrix)
            states = (matrix @ states.reshape(-1, left, own, size // (left * own))).reshape(-1, size)
            left *= own
        return states


class _Phases(nn.Module):
    """A phase for each amplitude, in radians (N,)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, phases: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("cos", phases.cos().to(dtype))
        self.register_buffer("sin", phases.sin().to(dtype))

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        return real * self.cos - imaginary * self.sin, real * self.sin + imaginary * self.cos


class _Moves(nn.Module):
    """CNOTs: where each amplitude comes from (N,)."""

    source: Tensor

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        self.register_buffer("source", source)

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        return real.index_select(1, self.source), imaginary.index_select(1, self.source)


class _Means(nn.Module):
    """Means of Pauli strings of states (B, N) -> (B, outputs)."""

    order: Tensor

    def __init__(self, layer: QuantumLayer) -> None:
        super().__init__()
        rows = parities(layer.circuit, layer.strings, torch.float32, torch.device("cpu"), before=False).clone()
        index = torch.arange(rows.shape[1])
        self.flips = sorted({string.x for string in layer.strings})
        order: list[int] = []
        for flip in self.flips:
            own: dict[bool, list[int]] = {False: [], True: []}
            for number, string in enumerate(layer.strings):
                if string.x == flip:
                    power = (flip & string.z).bit_count()  # Y = i X Z: as many factors i as there are Y
                    own[bool(power % 2)].append(number)
                    rows[number] *= (1, -1, -1, 1)[power % 4]
            self.register_buffer(f"from{flip}", index ^ flip)
            for odd, word in ((False, "real"), (True, "imaginary")):
                self.register_buffer(f"{word}{flip}", rows[own[odd]].T.contiguous() if own[odd] else None)
                order += own[odd]
        self.register_buffer("order", torch.argsort(torch.tensor(order)))

    def forward(self, real: Tensor, imaginary: Tensor) -> Tensor:
        found = []
        for flip in self.flips:
            source = self.get_buffer(f"from{flip}")
            first, second = (real, imaginary) if not flip else (real[:, source], imaginary[:, source])
            for word in ("real", "imaginary"):
                rows = getattr(self, f"{word}{flip}")
                if rows is not None:
                    even = first * real + second * imaginary if word == "real" else first * imaginary - second * real
                    found.append(even @ rows)
        return torch.cat(found, 1).index_select(1, self.order)


def _weights(layer: QuantumLayer) -> Tensor:
    """phi, theta, omega of every layer and qubit (L, n, 3) float64."""
    angles = layer.angles.detach().double()
    return angles if angles.shape[2] == 3 else torch.cat([torch.zeros_like(angles[:, :, :1]), angles], 2)


def _rotations(theta: Tensor, groups: Sequence[int]) -> list[Tensor]:
    """RY of every qubit's angle (n,), as the Kronecker products of the groups."""
    cos, sin = (0.5 * theta).cos(), (0.5 * theta).sin()
    single = torch.stack([cos, -sin, sin, cos], -1).view(-1, 2, 2)
    return _products(list(single.flip(0)), groups)


def _hadamards(groups: Sequence[int]) -> list[Tensor]:
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    return _products([one] * sum(groups), groups)


def _products(single: Sequence[Tensor], groups: Sequence[int]) -> list[Tensor]:
    found, start = [], 0
    for size in groups:
        found.append(functools.reduce(torch.kron, single[start : start + size]))
        start += size
    return found
