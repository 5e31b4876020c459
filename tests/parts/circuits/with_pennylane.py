"""The same circuits, observables and gradients with PennyLane. Import after pytest.importorskip."""

from __future__ import annotations

import numpy as np
import pennylane as qml
from pennylane import numpy as differentiable

from app.plan.circuits.circuit import Circuit, Gate, Parameter
from app.plan.circuits.paulis import PauliSum

PLAIN = {
    "id": qml.Identity,
    "x": qml.PauliX,
    "y": qml.PauliY,
    "z": qml.PauliZ,
    "h": qml.Hadamard,
    "s": qml.S,
    "t": qml.T,
    "sx": qml.SX,
    "rx": qml.RX,
    "ry": qml.RY,
    "rz": qml.RZ,
    "p": qml.PhaseShift,
    "u": qml.U3,
    "swap": qml.SWAP,
    "iswap": qml.ISWAP,
    "rxx": qml.IsingXX,
    "ryy": qml.IsingYY,
    "rzz": qml.IsingZZ,
}
INVERSE = {"sdg": qml.S, "tdg": qml.T, "sxdg": qml.SX}


def operations(gate: Gate, angles: list) -> list:
    """One gate; some take PennyLane several."""
    wires = gate.targets
    if gate.name == "unitary":
        wires = wires[::-1]  # PennyLane's first wire is the most significant bit
        return [qml.QubitUnitary(np.array(gate.matrix), wires)]
    if gate.name == "gphase":
        return [qml.GlobalPhase(-angles[0], wires=wires)]
    if gate.name == "r":  # the axis turned in the plane, and back
        return [qml.RZ(-angles[1], wires), qml.RX(angles[0], wires), qml.RZ(angles[1], wires)]
    if gate.name == "rzx":  # Z on the first, X on the second
        return [qml.Hadamard(wires[1]), qml.IsingZZ(angles[0], wires), qml.Hadamard(wires[1])]
    if gate.name in INVERSE:
        return [qml.adjoint(INVERSE[gate.name](wires))]
    return [PLAIN[gate.name](*angles, wires=wires)]


def gradient(circuit: Circuit, values: np.ndarray, observable: PauliSum, device: str, method: str):
    """Energy and derivatives (parameters,) of a circuit of gates."""
    measured = hamiltonian(observable)

    @qml.qnode(qml.device(device, wires=circuit.qubits), diff_method=method)
    def found(values):
        for gate in circuit.gates:
            angles = [a.scale * values[a.index] + a.offset if isinstance(a, Parameter) else a for a in gate.angles]
            with qml.QueuingManager.stop_recording():
                ops = operations(gate, angles)
                if gate.controls:
                    ops = [qml.ctrl(op, gate.controls) for op in ops]
            for op in ops:
                qml.apply(op)
        return qml.expval(measured)

    given = differentiable.array(values, requires_grad=True)
    return float(found(given)), np.asarray(qml.grad(found)(given))


def hamiltonian(observable: PauliSum):
    """A Pauli sum for PennyLane."""
    strings = []
    for term in observable.terms:
        factors = []
        for qubit in range(observable.qubits):
            letter = "IXZY"[(term.x >> qubit & 1) + 2 * (term.z >> qubit & 1)]
            if letter != "I":
                factors.append(getattr(qml, f"Pauli{letter}")(qubit))
        strings.append(qml.prod(*factors) if len(factors) > 1 else (factors or [qml.Identity(0)])[0])
    return qml.Hamiltonian([term.coefficient for term in observable.terms], strings)
