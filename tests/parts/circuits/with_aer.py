"""The same circuits for Qiskit Aer, gate by gate with Qiskit's own gates. Import after pytest.importorskip."""

import math
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, transpile
from qiskit.circuit import library
from qiskit.quantum_info import Operator
from qiskit_aer import AerSimulator

from app.plan.circuits.circuit import Circuit, Gate

CLASSES = {
    "id": library.IGate,
    "x": library.XGate,
    "y": library.YGate,
    "z": library.ZGate,
    "h": library.HGate,
    "s": library.SGate,
    "sdg": library.SdgGate,
    "t": library.TGate,
    "tdg": library.TdgGate,
    "sx": library.SXGate,
    "sxdg": library.SXdgGate,
    "rx": library.RXGate,
    "ry": library.RYGate,
    "rz": library.RZGate,
    "p": library.PhaseGate,
    "u": library.UGate,
    "r": library.RGate,
    "swap": library.SwapGate,
    "iswap": library.iSwapGate,
    "rxx": library.RXXGate,
    "ryy": library.RYYGate,
    "rzz": library.RZZGate,
    "rzx": library.RZXGate,
}
SIMULATOR = AerSimulator(method="statevector", max_parallel_threads=2)
NATIVE = frozenset(SIMULATOR.configuration().basis_gates)


def translated(circuit: Circuit) -> QuantumCircuit:
    """For Qiskit: qubit by qubit the same."""
    made = QuantumCircuit(circuit.qubits)
    for gate in circuit.gates:
        append_(made, gate)
    return made


def append_(made: QuantumCircuit, gate: Gate) -> None:
    """One gate; where Aer has none of that name, as the matrix that Qiskit gives it."""
    if gate.name == "gphase":
        if not gate.controls:
            made.global_phase += gate.angles[0]
            return
        # a phase of the controls alone: the last of them takes it
        gate = Gate("p", gate.controls[-1:], gate.angles, gate.controls[:-1])
    if gate.name == "unitary":
        theirs = library.UnitaryGate(np.array(gate.matrix))
    else:
        theirs = CLASSES[gate.name](*gate.angles)
    if gate.controls:
        theirs = theirs.control(len(gate.controls), annotated=False)
    if theirs.name not in NATIVE or theirs.name.startswith("mc"):
        theirs = library.UnitaryGate(Operator(theirs).data)
    made.append(theirs, [*gate.controls, *gate.targets])


def amplitudes(made: QuantumCircuit) -> np.ndarray:
    """Amplitudes (2^n,) that Aer finds."""
    made = made.copy()
    made.save_statevector()
    result = SIMULATOR.run(made, shots=1).result()
    assert result.success, result.status
    return np.asarray(result.get_statevector())


def run(circuit: Circuit) -> np.ndarray:
    """Amplitudes (2^n,) of a bound circuit."""
    found = amplitudes(translated(circuit))
    assert math.isclose(np.linalg.norm(found), 1, abs_tol=1e-12)
    return found


def of_file(file: Path) -> np.ndarray:
    """Amplitudes (2^n,) of an OpenQASM file, read by Qiskit, before its final measurements."""
    made = qasm2_or_3(file)
    made.remove_final_measurements()
    # not Aer's own basis: files define gates of their own by the names "unitary" and the like
    return amplitudes(transpile(made, basis_gates=["u", "p", "cx"], optimization_level=0))


def qasm2_or_3(file: Path) -> QuantumCircuit:
    """By Qiskit's own reader."""
    if "OPENQASM 2" in file.read_text():
        return qasm2.load(file, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    pytest.importorskip("qiskit_qasm3_import", reason="qiskit-qasm3-import, Qiskit's OpenQASM 3 reader, is missing")
    return qasm3.load(file)
