"""The simulators of the quantum benchmark: each builds a circuit (untimed), simulates it (timed), says amplitudes.

What is timed begins with allocating |0...0> and ends when the final amplitudes are in the simulator's memory; what a
simulator does to a circuit each time that it gets one (planning, fusing) is inside. Where it has several ways, all are
tried once and the fastest is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ranks.quantum_circuits import Listed, Op, listed, observable

Way = Callable[[], Any]  # simulates; what it returns is given to `amplitudes`


class Built(NamedTuple):
    """Ways to simulate one circuit, by name; amplitudes of what a way returned; what to do, untimed, before a call."""

    ways: dict[str, Way]
    amplitudes: Callable[[Any], np.ndarray]
    prepare: Callable[[], None] = lambda: None


def fastest(built: Built) -> str:
    """The way that was fastest after a first call, which compiles and warms up."""
    times = {}
    for name, way in built.ways.items():
        built.prepare()
        way()
        if len(built.ways) > 1:
            times[name] = timed(built, name)
    return min(times, key=lambda name: times[name], default=next(iter(built.ways)))


def timed(built: Built, name: str) -> float:
    """Seconds of one simulation."""
    built.prepare()
    begin = perf_counter()
    built.ways[name]()
    return perf_counter() - begin


class Ours:
    """Phalanx."""

    def __init__(self, dtype: str, threads: int, group: Any = None) -> None:
        self.dtype, self.threads, self.group = dtype, threads, group
        self.done: Any = None  # what the last simulation says of itself

    def circuit(self, case: Listed, trainable: bool = False) -> Any:
        """As the program holds it."""
        from app.plan.circuits.circuit import Circuit, Gate, Parameter

        gates, count = [], 0
        controlled = {"cz": "z", "cp": "p", "cx": "x"}
        for name, qubits, given in case.ops:
            angles: tuple[Any, ...] = given
            if trainable and given:
                angles, count = (Parameter(count),), count + 1
            if name in controlled:
                gates.append(Gate(controlled[name], qubits[1:], angles, qubits[:1]))
            else:
                gates.append(Gate(name, qubits, angles))
        return Circuit(case.qubits, tuple(gates), parameters=count)

    def build(self, case: Listed) -> Built:
        from app.circuits.simulate import apply_
        from app.circuits.state import amplitudes, zero_state

        next_one = [self.circuit(case)]

        def prepare() -> None:
            # Schedules of circuits seen before are kept: one of another name is planned anew, inside the time.
            next_one[0] = replace(next_one[0], name=next_one[0].name + "'")

        def way() -> Any:
            state = zero_state(case.qubits, self.dtype, self.group, self.threads)
            self.done = apply_(state, next_one[0])
            return state

        return Built({"apply_": way}, amplitudes, prepare)

    def predicted_bytes(self, case: Listed) -> int:
        """Bytes that one rank sends, by the schedule."""
        from app.circuits.simulate import planned

        ranks = self.group.size if self.group else 1
        local_bits = case.qubits - (ranks.bit_length() - 1)
        _, schedule = planned(self.circuit(case), range(case.qubits), local_bits, self.dtype)
        return schedule.exchanged_bytes(local_bits, 8 if self.dtype == "complex64" else 16)

    def gradient(self, case: Listed, terms: dict[str, float]) -> Way:
        from app.circuits.adjoint import gradient
        from app.plan.circuits.paulis import pauli_sum

        circuit, observed, values = self.circuit(case, trainable=True), pauli_sum(terms), values_of(case)
        return lambda: gradient(circuit, values, observed, self.dtype, self.group, self.threads)


class Planned(Ours):
    """Phalanx with the schedule of the call before."""

    def build(self, case: Listed) -> Built:
        return super().build(case)._replace(prepare=lambda: None)


class Qulacs:
    """qulacs: the circuit as it is, or fused by its optimizer (untimed)."""

    def __init__(self, dtype: str, threads: int) -> None:
        del dtype, threads  # complex128; OMP_NUM_THREADS and QULACS_NUM_THREADS

    def build(self, case: Listed) -> Built:
        import qulacs
        from qulacs.circuit import QuantumCircuitOptimizer

        def made() -> Any:
            circuit = qulacs.QuantumCircuit(case.qubits)
            for op in case.ops:
                circuit.add_gate(self.gate(op))
            return circuit

        light, fused = made(), made()
        QuantumCircuitOptimizer().optimize_light(light)
        QuantumCircuitOptimizer().optimize(fused, 2)

        def way(circuit: Any) -> Way:
            def run() -> Any:
                state = qulacs.QuantumState(case.qubits)
                circuit.update_quantum_state(state)
                return state

            return run

        ways = {"as it is": way(made()), "optimize_light": way(light), "optimize 2": way(fused)}
        return Built(ways, lambda state: state.get_vector())

    def gate(self, op: Op) -> Any:
        """Its own gate."""
        from qulacs import gate

        name, qubits, angles = op
        if name == "cp":
            return gate.DiagonalMatrix(list(qubits), [1, 1, 1, np.exp(1j * angles[0])])
        kinds = {"u": gate.U3, "h": gate.H, "cz": gate.CZ, "cx": gate.CNOT, "swap": gate.SWAP}
        return kinds[name](*qubits, *angles)

    def gradient(self, case: Listed, terms: dict[str, float]) -> Way:
        import qulacs

        circuit = qulacs.ParametricQuantumCircuit(case.qubits)
        for name, qubits, angles in case.ops:
            if name == "cx":
                circuit.add_CNOT_gate(*qubits)
            else:  # its rotations turn the other way round
                add = circuit.add_parametric_RY_gate if name == "ry" else circuit.add_parametric_RZ_gate
                add(*qubits, -angles[0])
        observed = qulacs.Observable(case.qubits)
        for text, coefficient in terms.items():
            observed.add_operator(coefficient, " ".join(f"{factor[0]} {factor[1:]}" for factor in text.split()))

        return lambda: (None, -np.array(circuit.backprop(observed)))


class Aer:
    """Qiskit Aer, statevector: with and without fusion. The circuit is assembled before; no transpilation."""

    def __init__(self, dtype: str, threads: int) -> None:
        self.precision, self.threads = ("single" if dtype == "complex64" else "double"), threads

    def build(self, case: Listed) -> Built:
        from qiskit import QuantumCircuit
        from qiskit_aer import AerSimulator

        circuit = QuantumCircuit(case.qubits)
        for name, qubits, angles in case.ops:
            getattr(circuit, name)(*angles, *qubits)
        circuit.save_statevector()

        def way(fusion: bool) -> Way:
            simulator = AerSimulator(
                method="statevector",
                precision=self.precision,
                fusion_enable=fusion,
                max_parallel_threads=self.threads,
                statevector_parallel_threshold=10,
            )
            return lambda: simulator.run(circuit, shots=1).result()

        return Built({"fusion": way(True), "no fusion": way(False)}, lambda found: np.asarray(found.get_statevector()))


class Lightning:
    """PennyLane's lightning.qubit: its state vector class called gate by gate, no graph; gradients by its device."""

    def __init__(self, dtype: str, threads: int) -> None:
        del threads  # OMP_NUM_THREADS
        self.dtype = dtype

    def build(self, case: Listed) -> Built:
        from pennylane_lightning import lightning_qubit_ops as ops

        kind = ops.StateVectorC64 if self.dtype == "complex64" else ops.StateVectorC128
        names = {"h": "Hadamard", "cz": "CZ", "cp": "ControlledPhaseShift", "swap": "SWAP", "u": "Rot"}
        calls = []
        for name, qubits, angles in case.ops:
            given = [angles[k] for k in (2, 0, 1)] if name == "u" else list(angles)  # Rot is u but for a global phase
            calls.append((names[name], [case.qubits - 1 - q for q in qubits], given))

        def way() -> Any:
            state = kind(case.qubits)
            for name, wires, params in calls:
                getattr(state, name)(wires, False, params)
            return state

        def amplitudes(state: Any) -> np.ndarray:
            found = np.empty(1 << case.qubits, self.dtype)
            state.getState(found)
            return found

        return Built({"state vector class": way}, amplitudes)

    def gradient(self, case: Listed, terms: dict[str, float]) -> Way:
        import pennylane as qml

        kinds = {"ry": qml.RY, "rz": qml.RZ, "cx": qml.CNOT}
        ops = [kinds[name](*angles, wires=qubits) for name, qubits, angles in case.ops]
        strings = [
            qml.prod(*(getattr(qml, f"Pauli{f[0]}")(int(f[1:])) for f in text.split()))
            if " " in text
            else getattr(qml, f"Pauli{text[0]}")(int(text[1:]))
            for text in terms
        ]
        device = qml.device("lightning.qubit", wires=case.qubits, c_dtype=getattr(np, self.dtype))
        tape = qml.tape.QuantumScript(ops, [qml.expval(qml.Hamiltonian(list(terms.values()), strings))])
        tape.trainable_params = list(range(len(values_of(case))))
        config = qml.devices.ExecutionConfig(gradient_method="adjoint", use_device_gradient=True)
        config = device.setup_execution_config(config, tape)
        (ready,), _ = device.preprocess_transforms(config)([tape])

        def way() -> Any:
            energies, jacobians = device.execute_and_compute_derivatives((ready,), config)
            return float(energies[0]), np.array(jacobians[0], float).reshape(-1)

        return way


class Qsim:
    """qsim through qsimcirq, complex64, fusing to 2, 3 or 4 qubits; the circuit is translated before."""

    def __init__(self, dtype: str, threads: int) -> None:
        del dtype
        self.threads = threads

    def build(self, case: Listed) -> Built:
        import cirq
        import qsimcirq

        qubits = cirq.LineQubit.range(case.qubits)
        circuit = cirq.Circuit(
            self.gate(op).on(*(qubits[case.qubits - 1 - q] for q in op.qubits)) for op in case.ops
        )  # cirq's first qubit is the most significant bit

        def way(fused: int) -> Way:
            options = qsimcirq.QSimOptions(max_fused_gate_size=fused, cpu_threads=self.threads)
            simulator = qsimcirq.QSimSimulator(options)
            module = simulator._sim_module
            order = cirq.QubitOrder.as_qubit_order(qubits).order_for(qubits)
            ours = qsimcirq.QSimCircuit(circuit)
            translated, _ = simulator._translate_circuit(ours, "translate_cirq_to_qsim", order)
            ready = {**simulator.qsim_options, "c": translated, "s": 1}
            return lambda: module.qsim_simulate_fullstate(ready, 0)

        return Built({f"fusion {k}": way(k) for k in (2, 3, 4)}, lambda found: found.view(np.complex64))

    def gate(self, op: Op) -> Any:
        """Its own gate."""
        import cirq

        name, _, angles = op
        if name == "u":
            (a, b, c) = angles
            phase = lambda angle: np.diag([1, np.exp(1j * angle)])  # noqa: E731
            turn = np.array([[np.cos(a / 2), -np.sin(a / 2)], [np.sin(a / 2), np.cos(a / 2)]])
            return cirq.MatrixGate(phase(b) @ turn @ phase(c))
        if name == "cp":
            return cirq.CZPowGate(exponent=angles[0] / np.pi)
        return {"h": cirq.H, "cz": cirq.CZ, "swap": cirq.SWAP}[name]


def values_of(case: Listed) -> np.ndarray:
    """The angles of an ansatz, in order."""
    return np.array([angle for op in case.ops for angle in op.angles])


def gradient_of(simulator: Any, case: str) -> Way:
    """By name: zsum20, ising20."""
    name = case.rstrip("0123456789")
    ansatz = listed(f"ansatz{case[len(name) :]}")
    return simulator.gradient(ansatz, observable(name, ansatz.qubits))


SIMULATORS = {"ours": Ours, "planned": Planned, "qulacs": Qulacs, "aer": Aer, "lightning": Lightning, "qsim": Qsim}
