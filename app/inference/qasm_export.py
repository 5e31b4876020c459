"""The circuit of a quantum layer, with its trained angles, as OpenQASM 3."""

import torch

from app.networks.quantum import QuantumLayer
from app.plan.circuits.circuit import Circuit, Gate, Parameter
from app.plan.circuits.qasm.writer import write_qasm3


def layer_circuit(layer: QuantumLayer) -> Circuit:
    """Its gates; parameter q is a sample's input q, before the layer's scale. The trained angles are numbers.

    Of amplitude embedding what follows on it, as preparing a state is no circuit of a few angles. Collective over:
    none.
    """
    qubits, gates = layer.circuit.qubits, []
    embeds = layer.embedding == "angle"
    if embeds and layer.rotation == "z":
        gates += [Gate("h", (qubit,)) for qubit in range(qubits)]
    for number, (angles, cnots) in enumerate(zip(layer.angles.detach().double(), layer.circuit.cnots, strict=True)):
        if embeds and (layer.reupload or not number):
            gates += [Gate(f"r{layer.rotation}", (q,), (Parameter(q, layer.scale),)) for q in range(qubits)]
        gates += _rotations(angles)
        gates += [Gate("x", (target,), (), (control,)) for control, target in cnots]
    return Circuit(qubits, tuple(gates), parameters=qubits if embeds else 0, name="quantum layer")


def layer_qasm(layer: QuantumLayer) -> str:
    """An OpenQASM 3 text, which says in comments what its inputs and outputs are. Collective over: none."""
    given = (
        f"// Inputs: the layer's inputs are p0 to p{layer.in_features - 1}."
        if layer.embedding == "angle"
        else "// Inputs: before it the state is made whose amplitudes are a sample's inputs, divided by their norm."
    )
    means = ", ".join(f"<{string}>" for string in layer.measure)
    head, _, rest = write_qasm3(layer_circuit(layer)).partition("\n")
    return "\n".join(
        [head, "// A quantum layer with its trained angles, written by Phalanx.", given, f"// Outputs: {means}.", rest]
    )


def _rotations(angles: torch.Tensor) -> list[Gate]:
    """Of one layer (n, 3): rz ry rz, or (n, 2): ry rz."""
    names = ("rz", "ry", "rz")[-angles.shape[1] :]
    return [
        Gate(name, (qubit,), (float(angle),))
        for qubit, row in enumerate(angles)
        for name, angle in zip(names, row, strict=True)
    ]
