"""Every reference circuit is read, written and read again, and is what Qiskit's own importer makes of it."""

from pathlib import Path

import numpy as np
import pytest

from app.plan.circuits.qasm import read_qasm, write_qasm3
from app.plan.circuits.qasm.known import DEFINED, LIBRARY
from tests.launch import TREE
from tests.parts.circuits.plain import run as amplitudes
from tests.parts.circuits.plain import unitary

FILES = sorted((TREE / "tests" / "references" / "circuits").glob("*.qasm"))
ANGLES = (0.3, -1.1, 0.7, 0.4)


def test_there_are_enough():
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_reference_is_read_and_written(file: Path):
    circuit = read_qasm(file.read_text("utf-8"), file.stem)
    assert circuit.operations
    again = read_qasm(write_qasm3(circuit), file.stem)
    assert again == circuit
    assert circuit.bound([0.1] * circuit.parameters).parameters == 0


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.stem.startswith("mqt") and "v3" not in file.stem],
    ids=lambda file: file.stem,
)
def test_reference_is_what_qiskit_reads(file: Path):
    qasm2 = pytest.importorskip("qiskit.qasm2", reason="Qiskit, whose importer is compared with, is not installed")
    from qiskit.quantum_info import Statevector

    text = file.read_text("utf-8")
    circuit = read_qasm(text, file.stem)
    theirs = qasm2.loads(text, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    assert (circuit.qubits, circuit.bits) == (theirs.num_qubits, theirs.num_clbits)
    if circuit.qubits > 6:
        return
    theirs.remove_final_measurements()
    overlap = np.vdot(Statevector(theirs).data, amplitudes(circuit))
    assert abs(overlap) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", [*LIBRARY, *DEFINED])
def test_names_mean_what_they_mean_in_qiskit(name):
    """Global phases included, which the controlled gates show."""
    library = pytest.importorskip("qiskit.circuit.library", reason="Qiskit, which is compared with, is not installed")
    from qiskit.quantum_info import Operator

    gate = _of_qiskit(library, name)
    if gate is None:
        pytest.fail(f"no gate of Qiskit is given for {name}")
    qubits = ", ".join(f"q[{qubit}]" for qubit in range(gate.num_qubits))
    angles = f"({', '.join(map(str, gate.params))})" if gate.params or name == "u0" else ""
    angles = "(1)" if name == "u0" else angles
    text = f'OPENQASM 3.0; include "stdgates.inc"; qubit[{gate.num_qubits}] q; {name}{angles} {qubits};'
    np.testing.assert_allclose(unitary(read_qasm(text)), Operator(gate).data, atol=1e-12)


def _of_qiskit(library, name):
    classes = {
        "id": "I", "u0": "I", "phase": "Phase", "p": "Phase", "cp": "CPhase", "cphase": "CPhase", "csx": "CSX",
        "csdg": "CSdg", "cs": "CS", "sxdg": "SXdg", "sdg": "Sdg", "tdg": "Tdg", "iswap": "iSwap", "mcx": "C3X",
        "c3sqrtx": "C3SX", "rccx": "RCCX", "rc3x": "RC3X", "rcccx": "RC3X", "xx_plus_yy": "XXPlusYY",
        "xx_minus_yy": "XXMinusYY", "swap": "Swap", "cswap": "CSwap",
    }  # fmt: skip
    made = getattr(library, classes.get(name, name.upper()) + "Gate", None)
    if made is None:
        return None
    for count in range(5):
        try:
            return made(*ANGLES[:count])
        except (TypeError, AttributeError):
            continue
    return None


def test_qiskits_text_of_version_3_is_what_its_circuit_is():
    pytest.importorskip("qiskit.qasm3", reason="Qiskit, whose exporter is read, is not installed")
    from qiskit import QuantumCircuit, qasm3
    from qiskit.circuit import Parameter
    from qiskit.circuit.library import RZXGate, XXPlusYYGate
    from qiskit.quantum_info import Operator

    theta = Parameter("theta")
    circuit = QuantumCircuit(4, 2)
    circuit.rx(2 * theta + 1, 0)
    circuit.append(RZXGate(0.3), (1, 2))
    circuit.append(XXPlusYYGate(0.3, 0.4).control(1), (3, 0, 1))
    circuit.iswap(0, 3)
    circuit.mcp(0.2, [0, 1, 2], 3)
    circuit.ryy(theta, 2, 3)
    read = read_qasm(qasm3.dumps(circuit))
    expected = Operator(circuit.assign_parameters({theta: 0.8})).data
    # The exporter leaves out global phases.
    overlap = np.vdot(unitary(read.bound([0.8])), expected) / 16
    assert abs(overlap) == pytest.approx(1, abs=1e-12)
