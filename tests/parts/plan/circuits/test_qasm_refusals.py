"""One mistake per sentence: the line, what was found, what is supported. And texts made to do harm."""

import time

import pytest

from app.errors import InputError
from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.qasm import read_qasm, write_qasm3

HEADER = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q; bit[3] c; qubit one;\n'


def refused(text, header=HEADER):
    with pytest.raises(InputError) as caught:
        read_qasm(header + text, "file")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("while (c[0]) { }", "found 'while'; supported are include, qreg"),
        ("def f() { }", "found 'def'; supported are"),
        ("defcal x $0 { }", "found 'defcal'; supported are"),
        ("extern f(int) -> int;", "found 'extern'; supported are"),
        ("switch (c) { }", "found 'switch'; supported are"),
        ("opaque g a;", "found 'opaque'; supported are"),
        ("output bit d;", "found 'output'; supported are"),
        ("int n = 3;", "found 'int'; supported are"),
        ("@reversible x q;", "found '@'; supported are"),
        ("; ;", "found ';'; supported are"),
        ("q[0];", "found 'q'; a register of qubits"),
        ("foo q[0];", "gate foo is not defined; define it above"),
        ("rx q[0];", "rx takes 1 angles, and 0 are given"),
        ("x(1) q[0];", "x takes 0 angles, and 1 are given"),
        ("cx q[0];", "the gate acts on 2 qubits, and 1 are given"),
        ("ctrl(2) @ x q[0], q[1];", "the gate acts on 3 qubits, and 2 are given"),
        ("cx q[0], q[0];", "a gate uses one qubit twice"),
        ("cx q, q;", "a gate uses one qubit twice"),
        ("x q[3];", "found q[3]; q has 3, numbered 0 to 2"),
        ("x q[-4];", "found q[-4]; q has 3"),
        ("x q[0:3];", "found q[0:1:3]; q has 3"),
        ("x q[0:0:2];", "found q[0:0:2]; q has 3"),
        ("x c[0];", "this is a bit register, and a qubit is expected"),
        ("x r[0];", "found 'r'; expected a qubit register; declared are q, one"),
        ("x $0;", "found a physical qubit beside declared qubits"),
        ("x q[0.5];", "found '0.5'; expected an integer"),
        ("x q[0]", "found the end of the text; expected ','"),
        ("x q[0] q[1];", "found 'q'; expected ','"),
        ("qubit q;", "q is declared twice"),
        ("qubit[0] r;", "found a register of 0; expected 1 to"),
        ("qubit[2", "found the end of the text; expected ']'"),
        ("bit[2] d = 3;", "bits begin as 0; only = measure is supported"),
        ("gate x a { }  gate x a { }", "gate x is defined twice"),
        ("gate g a { g a; }", "gate g is not defined"),
        ("gate g a { x b; }", "found 'b'; expected a qubit of the gate: a"),
        ("gate g a, b { cx a, a; }", "a gate uses one qubit twice"),
        ("gate g a, a { }", "a is declared twice"),
        ("gate g a { reset a; }", "gate reset is not defined"),
        ("gate g a { x a;", "found the end of the text; expected the name of a gate"),
        ("rz(1/2) q[0];", "1/2 divides integers, which OpenQASM 3 rounds to 0; write 1.0/2"),
        ("rz(1/0) q[0];", "1 / 0 divides by zero"),
        ("rz(sqrt(-1)) q[0];", "sqrt(-1) is not a finite real number"),
        ("rz((-8)**0.5) q[0];", "is not a finite real number"),
        ("rz(2^3) q[0];", "in OpenQASM 3 a power is written **"),
        ("rz(1e999) q[0];", "the number is too large for a double"),
        ("rz(foo) q[0];", "found 'foo'; expected a number, pi"),
        ("rz(1 q[0];", "found 'q'; expected ')'"),
        ("input float a; rz(a*a) q[0];", "joins two input parameters by *; it must be a * parameter + b"),
        ("input float a; input float b; rz(a + b) q[0];", "joins two input parameters by +"),
        ("input float a; rz(sin(a)) q[0];", "an angle applies sin to an input parameter"),
        ("input float a; rz(1/a) q[0];", "an angle applies / to an input parameter"),
        ("input float a; const float b = a;", "a constant is a number"),
        ("input float a; pow(a) @ x q[0];", "pow takes a number, not an input parameter"),
        ("input int a;", "found 'int'; expected one of the types float, angle"),
        ("input float pi;", "pi is a name of the language"),
        ("pow(0.5) @ swap q[0], q[1];", "such a gate has whole powers alone"),
        ("ctrl(0) @ x q[0];", "found ctrl(0); expected 1 to 999 control qubits"),
        ("measure q;", "expected -> and bits to measure into"),
        ("measure q -> c[0];", "found 3 qubits measured into 1 bits"),
        ("c = 3;", "only a measurement can be assigned to bits"),
        ("if (c) x q[0];", "found a condition on a register"),
        ("if (c != 2) x q[0];", "found a condition on a register"),
        ("if (c > 2) x q[0];", "found '>'; expected == and a number"),
        ("if (c == 1) x q[0]; else y q[0];", "else is supported after a condition on one bit alone"),
        ("if (c[0]) { c[0] = measure q[0]; x q[0]; }", "after a measurement into the bits that the if asks for"),
        ("if (c[0]) { qubit r; }", "found a declaration in a block"),
        ("if (c[0]) { x q[0];", "found the end of the text; expected }"),
        ("for int i in q { }", "expected integers such as [0:3] or {0, 2}"),
        ("for int i in [0:0:3] { }", "with a step that is not 0"),
        ("for int q in [0:3] { }", "q is declared twice"),
        ('include "other.inc";', "can be included; copy the gates"),
        ("/* never closed", "found the end inside a comment; expected */"),
    ],
)
def test_sentences_and_lines(text, sentence):
    message = refused(text)
    assert sentence in message
    assert message.startswith("file, line 4: ")


def test_the_line_is_that_of_the_mistake():
    assert refused("x q[0];\n// x\n/* \n */ foo q[0];").startswith("file, line 7: gate foo")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("OPENQASM 4.0;", "file, line 1: found '4.0'; expected OpenQASM 2.0 or 3.0"),
        ("OPENQASM 2.0; qreg q[1]; h q[0];", 'gate h is not defined; is include "qelib1.inc"; missing?'),
        ("", "file: found no qubits; expected qreg q[n]; or qubit[n] q;"),
        ("x $0; qubit q;", "gate x is not defined"),
    ],
)
def test_sentences_of_the_whole_text(text, sentence):
    assert sentence in refused(text, "")


def test_a_matrix_of_two_qubits_is_not_written():
    rows = tuple(tuple(complex(a == b) for a in range(4)) for b in range(4))
    with pytest.raises(InputError, match="found a unitary matrix on 2 qubits"):
        write_qasm3(Circuit(2, (Gate("unitary", (0, 1), (), (), rows),)))


def _doubling(body):
    lines = [f"gate g0 a {{ {body} }}"] + [f"gate g{k} a {{ g{k - 1} a; g{k - 1} a; }}" for k in range(1, 60)]
    return "\n".join(lines) + "\ng59 q[0];"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (_doubling("x a;"), "more than 5000000 operations"),
        (_doubling(""), "more than 5000000 operations"),
        ("gate g a { x a; } pow(1e300) @ g q[0]; gate h2 a { x a; y a; } pow(1e300) @ h2 q[0];", "more than 5000000"),
        ("for int i in [0:999999999999] x q;", "more than 5000000 operations"),
        ("rz(" + "(" * 100_000 + "1" + ")" * 100_000 + ") q[0];", "nested too deep"),
        ("rz(" + "2**" * 100_000 + "2) q[0];", "nested too deep"),
        ("rz(" + "sin(" * 100_000 + ") q[0];", "nested too deep"),
        ("if (c[0]) " * 100_000 + "x q[0];", "blocks are nested too deep"),
        ("rz(9**9**9**9) q[0];", "is not a finite real number"),
        ("rz(" + "9" * 100_000 + ") q[0];", "the number is too large"),
        ("x q[" + "9" * 100_000 + "];", "the number is too large"),
        ("qubit[999999999] r;", "expected 1 to 65536"),
        ("x q[0:99999999999];", "q has 3"),
        ("inv @ " * 100_000 + "x q[0];", "more than 64 modifiers"),
        ("ctrl(999999999999) @ x q[0];", "expected 1 to 999 control qubits"),
        ("gate g0 a { x a; }" + "".join(f"gate g{k} a {{ g{k - 1} a; }}" for k in range(1, 200)), "at most 100 are"),
        ("/*" * 500_000, "found the end inside a comment"),
        ("/* */" + "/" * 500_000 + "\n$", "found '$'; supported are"),
        (" " * 1_000_000 + "\x00", "supported are"),
        ("x q[0]; // \n" + "//\n" * 300_000 + "y", "found the end of the text"),
    ],
    ids=range(20),
)
def test_hostile_texts_are_refused_in_time(text, sentence):
    begin = time.process_time()
    assert sentence in refused(text)
    assert time.process_time() - begin < 20


def test_a_text_that_is_too_large():
    assert "at most 33554432 (32 MiB) are supported" in refused(" " * (2**25 + 1), "")


def test_long_sums_and_signs_need_no_depth():
    long = "rz(" + "+".join(["1"] * 50_000) + ") q[0]; rz(" + "-" * 50_001 + "1) q[0];"
    assert [gate.angles[0] for gate in read_qasm(HEADER + long).gates] == [50_000.0, -1.0]
