"""Circuits run by Qiskit's primitives: Aer, or any BackendV2. The only place that imports Qiskit."""

import importlib
import importlib.metadata
import math
from typing import Any

import numpy as np

from app.errors import InputError
from app.plan.circuits.circuit import Circuit, Gate, If, Measure, Operation, Parameter
from app.plan.circuits.gates import matrix
from app.plan.circuits.paulis import PauliSum

MISSING = 'backend = "qiskit" wants the packages qiskit and qiskit-aer: pip install "phalanx-hpc[qiskit]"'

SEED = 7  # of the transpiler


class Qiskit:
    """Estimator and sampler of Qiskit's Aer, or of a device: "package.module:function" that returns a BackendV2."""

    def __init__(self, device: str | None, shots: int, precision: str) -> None:
        """Collective over: none. Raises InputError: Qiskit is not installed, no such device."""
        try:
            from qiskit import circuit, primitives, quantum_info, transpiler
            from qiskit.circuit import library
            from qiskit_aer import AerSimulator
            from qiskit_aer import primitives as aer
        except ImportError as error:
            raise InputError(f"{MISSING} ({error}).") from None
        self._circuits, self._library, self._info, self._primitives = circuit, library, quantum_info, primitives
        self._aer, self._shots, self._device = aer, shots, _device(device) if device else None
        target = self._device or AerSimulator()
        self._passes = transpiler.generate_preset_pass_manager(0, target, seed_transpiler=SEED)
        self._exact: Any = None  # making an estimator takes longer than a small circuit
        self._options = {"precision": "single" if precision == "complex64" else "double", "max_parallel_threads": 1}

    @property
    def name(self) -> str:
        """What computes, for the log."""
        version = importlib.metadata.version("qiskit")
        return f"Qiskit {version}, {getattr(self._device, 'name', None) or 'Aer'}"

    def energy(self, circuit: Circuit, observable: PauliSum, seed: int) -> float:
        """The expectation after a bound circuit of gates; Aer's is exact without shots. Collective over: none."""
        made = self._transpiled(self.built(circuit))
        terms = [(_word(one.x, one.z, circuit.qubits), one.coefficient) for one in observable.terms]
        sum_ = self._info.SparsePauliOp.from_list(terms)
        if made.layout is not None:
            sum_ = sum_.apply_layout(made.layout)
        precision = 1 / math.sqrt(self._shots) if self._shots else 0.0
        job = self._estimator(seed).run([(made, sum_)], precision=precision or None)
        return float(job.result()[0].data.evs)

    def counts(self, circuit: Circuit, shots: int, seed: int) -> dict[str, int]:
        """How often its bits, or all qubits of a circuit without bits, had each value. Collective over: none."""
        made = self.built(circuit)
        if not circuit.bits:
            made.measure_all()
        result = self._sampler(seed).run([self._transpiled(made)], shots=shots).result()[0]
        (bits,) = result.data.values()
        return dict(sorted(bits.get_counts().items()))

    def built(self, circuit: Circuit) -> Any:
        """Our circuit as a QuantumCircuit; bound. Collective over: none."""
        made = self._circuits.QuantumCircuit(circuit.qubits, circuit.bits)
        for operation in circuit.operations:
            self._append(made, operation)
        return made

    def _append(self, made: Any, operation: Operation) -> None:
        if isinstance(operation, If):
            bits = [made.clbits[bit] for bit in operation.bits]
            values = [bool(operation.value >> k & 1) for k in range(len(bits))]
            expression = self._circuits.classical.expr
            condition = None
            for bit, value in zip(bits, values, strict=True):
                one = expression.lift(bit) if value else expression.logic_not(bit)
                condition = one if condition is None else expression.logic_and(condition, one)
            with made.if_test(condition):
                self._append(made, operation.operation)
        elif isinstance(operation, Measure):
            made.measure(operation.qubit, operation.bit)
        elif isinstance(operation, Gate):
            qubits = [*operation.controls, *operation.targets]
            gate = self._gate(operation)
            made.append(gate.control(len(operation.controls)) if operation.controls else gate, qubits)
        else:
            made.reset(operation.qubit)

    def _gate(self, gate: Gate) -> Any:
        if gate.matrix is not None:
            return self._library.UnitaryGate(np.array(matrix(gate)))
        angles = [angle for angle in gate.angles if not isinstance(angle, Parameter)]
        return getattr(self._library, _CLASSES[gate.name])(*angles)

    def _estimator(self, seed: int) -> Any:
        if self._device is not None:
            options = {"seed_simulator": seed}
            return self._primitives.BackendEstimatorV2(backend=self._device, options=options)
        if self._shots or self._exact is None:
            run = {"seed_simulator": seed}
            self._exact = self._aer.EstimatorV2(options={"backend_options": self._options, "run_options": run})
        return self._exact

    def _sampler(self, seed: int) -> Any:
        if self._device is not None:
            options = {"seed_simulator": seed}
            return self._primitives.BackendSamplerV2(backend=self._device, options=options)
        return self._aer.SamplerV2(seed=seed, options={"backend_options": self._options})

    def _transpiled(self, made: Any) -> Any:
        """In gates that the machine knows."""
        return self._passes.run(made)


_CLASSES = {
    "gphase": "GlobalPhaseGate",
    "id": "IGate",
    "x": "XGate",
    "y": "YGate",
    "z": "ZGate",
    "h": "HGate",
    "s": "SGate",
    "sdg": "SdgGate",
    "t": "TGate",
    "tdg": "TdgGate",
    "sx": "SXGate",
    "sxdg": "SXdgGate",
    "rx": "RXGate",
    "ry": "RYGate",
    "rz": "RZGate",
    "p": "PhaseGate",
    "u": "UGate",
    "r": "RGate",
    "swap": "SwapGate",
    "iswap": "iSwapGate",
    "rxx": "RXXGate",
    "ryy": "RYYGate",
    "rzz": "RZZGate",
    "rzx": "RZXGate",
}


def _word(x: int, z: int, qubits: int) -> str:
    """A Pauli string in Qiskit's order: qubit 0 at the right."""
    return "".join("IXZY"[(x >> q & 1) + 2 * (z >> q & 1)] for q in reversed(range(qubits)))


def _device(text: str) -> Any:
    place, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(place), name)()
    except Exception as error:  # whatever a user's function may raise
        raise InputError(f'device = "{text}": {type(error).__name__}: {" ".join(str(error).split())}.') from None
