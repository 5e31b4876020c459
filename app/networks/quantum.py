"""A quantum layer: a circuit of trainable angles on each sample's angles, whose measured means are the outputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from app.circuits.batched import finish, product_states, run_layers, weighted_probabilities
from app.circuits.layered import Layered, chains, constants, parities, rings
from app.plan.circuits.paulis import PauliString, pauli_sum
from app.plan.layer_lists import quantum_operations, rotation_groups

CIRCUITS = {"strongly_entangling": rings, "hardware_efficient": chains}
EMBEDDINGS = ("angle", "amplitude")
ROTATIONS = ("x", "y", "z")


class QuantumLayer(nn.Module):
    """(M, F) -> (M, outputs): embed each sample, apply layers of rotations and CNOTs, measure.

    F: the qubits; of amplitude embedding 2^qubits. angles (layers, qubits, 3): RZ(phi) RY(theta) RZ(omega) of ansatz
    "strongly_entangling", followed by rings of CNOTs; (layers, qubits, 2): RY RZ of "hardware_efficient", by chains.
    Embedding "angle": a rotation about x, y or z by scale x input radians, before the first layer, with reupload
    before each (about z a Hadamard comes first, once); "amplitude": the input, normalised, is the state. measure: Pauli
    strings such as "Z0" or "X0 X1", whose means are the outputs; none: Z of each qubit. An angle is as good as one that
    differs by 2 pi.

    Starting angles are normal with variance 1 / (4 (layers + 2)): Zhang et al., Escaping from the barren plateau via
    Gaussian initializations, NeurIPS 2022. Raises ValueError.
    """

    def __init__(
        self,
        qubits: int,
        layers: int,
        *,
        ansatz: str = "strongly_entangling",
        embedding: str = "angle",
        rotation: str = "x",
        reupload: bool = False,
        scale: float = 1.0,
        measure: Sequence[str] = (),
    ) -> None:
        super().__init__()
        _refuse(qubits, layers, ansatz, embedding, rotation, reupload)
        self.circuit: Layered = CIRCUITS[ansatz](qubits, layers)
        self.embedding, self.rotation, self.reupload, self.scale = embedding, rotation, reupload, scale
        self.measure = tuple(measure) or tuple(f"Z{qubit}" for qubit in range(qubits))
        self.strings = _strings(self.measure, qubits)
        self.in_features = 1 << qubits if embedding == "amplitude" else qubits
        self.out_features = len(self.strings)
        each = 3 if ansatz == "strongly_entangling" else 2
        self.angles = nn.Parameter(torch.randn(layers, qubits, each) / math.sqrt(4 * (layers + 2)))

    def extra_repr(self) -> str:
        """For printing."""
        return (
            f"{self.circuit.qubits} qubits, {self.circuit.layers} layers, {self.embedding}, {len(self.strings)} means"
        )

    @property
    def operations(self) -> int:
        """Multiply-adds of one sample's forward pass, as the simulation does them: two real columns a sample."""
        return quantum_operations(self.circuit.qubits, self.circuit.layers, self.out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (M, F) -> (M, outputs). Collective over: none. Raises ValueError for another shape."""
        if inputs.dim() != 2 or inputs.shape[1] != self.in_features:
            raise ValueError(
                f"a quantum layer of {self.circuit.qubits} qubits wants inputs (samples, {self.in_features}) for its"
                f" {self.embedding} embedding, not {tuple(inputs.shape)}"
            )
        with torch.autocast(inputs.device.type, enabled=False):
            return self._means(inputs.to(self.angles.dtype))

    def _means(self, inputs: Tensor) -> Tensor:
        weights, circuit = self._weights(), self.circuit
        if self.embedding == "amplitude":
            norms = inputs.norm(dim=1, keepdim=True)
            first = torch.zeros_like(inputs)
            first[:, 0] = 1.0  # a sample of zeros alone is the state |0...0>
            inputs = torch.where(norms > 0, inputs / norms.clamp_min(torch.finfo(norms.dtype).tiny), first)
            states = run_layers(inputs.T.contiguous(), weights, circuit)
            return self._measured(states, weights)
        angles = (self.scale * inputs).T.contiguous()
        states, offset = self._embedded(angles)
        if not self.reupload:
            return self._measured(run_layers(states, weights, circuit, offset), weights)
        phases = self._phases(angles)
        for number, cnots in enumerate(circuit.cnots):
            one, own = Layered(circuit.qubits, (cnots,)), weights[number : number + 1]
            states = run_layers(states, own, one, None if number else offset)
            if number + 1 < circuit.layers:
                states = self._embedded_again(finish(states, own, one), phases)
        return self._measured(states, weights)

    def _weights(self) -> Tensor:
        """(L, n, 3)."""
        if self.angles.shape[2] == 3:
            return self.angles
        return torch.cat([torch.zeros_like(self.angles[:, :, :1]), self.angles], 2)

    def _embedded(self, angles: Tensor) -> tuple[Tensor, Tensor | None]:
        """States (N, M) of angles (n, M) radians, and the phases that they do not have yet."""
        if self.rotation == "z":
            phases = self._phases(angles)
            return phases / math.sqrt(len(phases)), None
        offset = -0.5 * math.pi * self._ones() if self.rotation == "x" else None
        return product_states(angles), offset

    def _embedded_again(self, states: Tensor, phases: Tensor) -> Tensor:
        """The rotations on states: about x as about z between Hadamards, about y with S around these."""
        if self.rotation == "z":
            return states * phases
        turn = torch.polar(torch.ones_like(self._ones()), 0.5 * math.pi * self._ones()).unsqueeze(1)
        if self.rotation == "y":
            states = states * turn.conj()
        states = _hadamards(_hadamards(states, self.circuit.qubits) * phases, self.circuit.qubits)
        return states * turn if self.rotation == "y" else states

    def _phases(self, angles: Tensor) -> Tensor:
        """The diagonals of RZ(angle) on every qubit (N, M) complex."""
        turned = -0.5 * (self._signs().T @ angles)
        return torch.polar(torch.ones_like(turned), turned)

    def _signs(self) -> Tensor:
        return constants(self.circuit, self.angles.dtype, self.angles.device).signs

    def _ones(self) -> Tensor:
        """How many qubits are 1, by amplitude (N,)."""
        return 0.5 * (self.circuit.qubits - self._signs().sum(0))

    def _measured(self, states: Tensor, weights: Tensor) -> Tensor:
        """(M, outputs) of the states before the last RZ and CNOTs, which products of Z see as a permutation alone."""
        if all(string.x == 0 for string in self.strings):
            rows = parities(self.circuit, self.strings, weights.dtype, weights.device, before=True)
            return weighted_probabilities(states, rows)
        states = finish(states, weights, self.circuit)
        index, means = torch.arange(len(states), device=states.device), {}
        rows = parities(self.circuit, self.strings, weights.dtype, weights.device, before=False)
        for x in {string.x for string in self.strings}:
            products = states[index ^ x].conj() * states
            for number, string in enumerate(self.strings):
                if string.x == x:
                    # Y = i X Z: as many factors i as there are Y
                    power = (x & string.z).bit_count()
                    part = products.imag if power % 2 else products.real
                    means[number] = (1, -1, -1, 1)[power % 4] * (rows[number] @ part)
        return torch.stack([means[number] for number in range(len(means))], 1)


def _hadamards(states: Tensor, qubits: int) -> Tensor:
    """H on every qubit of complex states (N, M)."""
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=states.real.dtype, device=states.device) / math.sqrt(2)
    real, left = torch.view_as_real(states), 1
    shape = real.shape
    for size in rotation_groups(qubits):
        whole = one
        for _ in range(size - 1):
            whole = torch.kron(whole, one)
        real = torch.matmul(whole, real.reshape(left, 1 << size, -1))
        left <<= size
    return torch.view_as_complex(real.reshape(shape))


def _strings(measure: Sequence[str], qubits: int) -> tuple[PauliString, ...]:
    found = []
    for text in measure:
        one = pauli_sum({text: 1.0})
        if one.qubits > qubits:
            raise ValueError(f"measure = {text!r}: the qubits are 0 to {qubits - 1}")
        if not one.qubits:
            raise ValueError(f"measure = {text!r}: its mean is 1 whatever the state")
        found.append(one.terms[0])
    return tuple(found)


def _refuse(qubits: int, layers: int, ansatz: str, embedding: str, rotation: str, reupload: bool) -> None:
    if not 1 <= qubits <= 20:
        raise ValueError(f"a quantum layer of {qubits} qubits; 1 to 20")
    if layers < 1:
        raise ValueError(f"a quantum layer of {layers} layers; at least 1")
    for key, value, known in (
        ("ansatz", ansatz, CIRCUITS),
        ("embedding", embedding, EMBEDDINGS),
        ("rotation", rotation, ROTATIONS),
    ):
        if value not in known:
            raise ValueError(f"{key} = {value!r}; one of {', '.join(known)}")
    if reupload and embedding != "angle":
        raise ValueError('reupload embeds angles again: it wants embedding = "angle"')
