"""What is wrong with a quantum phase: in the text, in its circuit, and with the number of ranks."""

import pytest

GOOD = """\
[run]
name = "job"
folder = "{results}"

[[phase]]
kind = "quantum"
name = "q"
circuit = {{ template = "ghz", qubits = 4 }}
observable = {{ "Z0 Z1" = 1.0 }}
"""
CIRCUIT = '{ template = "ghz", qubits = 4 }'
OBSERVABLE = '{ "Z0 Z1" = 1.0 }'
ANSATZ = '{ template = "hardware_efficient", qubits = 4, layers = 1 }'

# replace the first by the second -> words of the message
MISTAKES = {
    "two sources": (CIRCUIT, '{ template = "ghz", file = "x.qasm" }', "one of template, file and function"),
    "unknown template": ('"ghz"', '"ghs"', 'template = "ghs" is not known', "did you mean 'ghz'?"),
    "unknown key of a template": ("qubits = 4", "qubit = 4", "has no key 'qubit'", "did you mean 'qubits'?"),
    "missing key of a template": (", qubits = 4", "", 'template "ghz" wants qubits'),
    "no such file": (CIRCUIT, '{ file = "no.qasm" }', "no.qasm", "cannot be read"),
    "no such function": (CIRCUIT, '{ function = "no.py:build" }', "no.py is not a file"),
    "not a Pauli": ('"Z0 Z1"', '"Z0 Q1"', "'Q1' is not a Pauli"),
    "text for a coefficient": ("= 1.0 }", '= "1" }', "a table such as"),
    "unknown model": (OBSERVABLE, '{ model = "izing", qubits = 4 }', "did you mean 'ising'?"),
    "too many qubits observed": ('"Z0 Z1"', '"Z0 Z5"', "it has 6 qubits, but the circuit has 4"),
    "unknown task": (OBSERVABLE, OBSERVABLE + '\ntask = "minimize"', 'one of "simulate" or "minimise"'),
    "unknown noise": (OBSERVABLE, OBSERVABLE + "\nnoise = { one_qbit = 0.1 }", "noise: unknown key 'one_qbit'"),
    "noise that keeps a state": (
        OBSERVABLE,
        OBSERVABLE + "\nnoise = { one_qubit = 0.1 }\nsave_state = true",
        "ends in no single state",
    ),
    "nothing to minimise": ('observable = { "Z0 Z1" = 1.0 }', 'task = "minimise"', "wants an observable"),
    "no parameters": (OBSERVABLE, OBSERVABLE + '\ntask = "minimise"', "wants a circuit with parameters"),
    "parameters without values": (CIRCUIT, ANSATZ, "the circuit has 16 parameters; give values"),
    "too few values": (CIRCUIT, ANSATZ + "\nvalues = [0.1]", "1 numbers, but the circuit has 16 parameters"),
    "values of no phase": (CIRCUIT, ANSATZ + '\nvalues = "before"', "no earlier quantum phase of that name"),
    "adjoint of samples": (
        CIRCUIT,
        ANSATZ + '\ntask = "minimise"\nshots = 10\ngradient = "adjoint"',
        'take gradient = "shift"',
    ),
    "device without Qiskit": (OBSERVABLE, OBSERVABLE + '\ndevice = "a.b:c"', 'device goes with backend = "qiskit"'),
    "probabilities of no qubit": (OBSERVABLE, OBSERVABLE + "\nprobabilities = [4]", "different qubits of 0 to 3"),
    "memory": ("[[phase]]", '[grid]\nmemory = "64 KiB"\n[[phase]]', "20 qubits", "[grid] memory"),
    "train without data": ('"quantum"\nname = "q"', '"train"\nname = "t"', "the table 'data' is missing"),
}


@pytest.fixture
def quantum(job):
    job.input.write_text(GOOD.format(results=job.results))
    return job


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(quantum, refused, mistake):
    old, new, *words = MISTAKES[mistake]
    quantum.edit((old, new))
    if mistake == "memory":
        quantum.edit(("qubits = 4", "qubits = 20"))
    told = quantum.check()
    refused(told, *words, lines=len(told.err.rstrip().splitlines()) if mistake == "train without data" else 1)


def test_a_good_one_is_checked_without_data(quantum):
    told = quantum.check("--ranks", "3")
    assert told.code == 0
    assert "ranks 0 to 1 each hold 1/2 of the state, 128 B" in told.out
    assert "2 of 3 ranks hold the state, 1 stays out" in told.out


def test_a_function_of_the_user_that_makes_no_circuit(quantum, refused):
    (quantum.folder / "own.py").write_text("def build():\n    return 3\n")
    quantum.edit((CIRCUIT, '{ function = "own.py:build" }'))
    told = quantum.run()
    refused(told, "returned int", "expected an app.plan.circuits.circuit.Circuit")
