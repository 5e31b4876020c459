"""The circuit and the observable that the tables of a quantum phase ask for."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.phases import Quantum
from app.inputfile.sentences import nearest
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.models import MODELS
from app.plan.circuits.paulis import PauliSum, pauli_sum
from app.plan.circuits.qasm import read_qasm
from app.plan.circuits.templates import TEMPLATES

T = TypeVar("T")


def circuits_of(given: Input, folder: Path) -> dict[str, Circuit]:
    """By phase the circuits that are known before the run: all but those of functions. `folder` is the input file's.

    Raises InputError with all problems.
    """
    found: dict[str, Circuit] = {}
    problems: list[str] = []
    for phase in given.phase:
        if not isinstance(phase, Quantum) or phase.circuit.function is not None:
            continue
        try:
            found[phase.name] = _circuit(phase, folder)
        except InputError as error:
            problems += [f'[[phase]] "{phase.name}": {problem}' for problem in error.problems]
    if problems:
        raise InputError(*problems)
    return found


def observable_of(phase: Quantum) -> PauliSum | None:
    """The sum of Pauli strings, None where the phase has none. Raises InputError."""
    table = phase.observable
    if table is None:
        return None
    if not isinstance(table.get("model"), str):
        try:
            return pauli_sum(table)
        except ValueError as error:
            raise InputError(f"observable: {error}.") from None
    numbers = {key: value for key, value in table.items() if key != "model"}
    return _by_name("observable", "model", table["model"], MODELS, numbers)


def _circuit(phase: Quantum, folder: Path) -> Circuit:
    table = phase.circuit
    if table.template is not None:
        return _by_name("circuit", "template", table.template, TEMPLATES, table.numbers)
    path = folder / str(table.file)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f'circuit: file = "{table.file}": {path} cannot be read: {why}.') from None
    try:
        return read_qasm(text, path.stem)
    except InputError as error:
        raise InputError(*(f'circuit: file = "{table.file}": {problem}' for problem in error.problems)) from None
    except ValueError as error:
        raise InputError(f'circuit: file = "{table.file}": {error}') from None


def _by_name(table: str, key: str, name: str, known: Mapping[str, Callable[..., T]], numbers: Mapping[str, Any]) -> T:
    """What the function of that name makes of the numbers beside it."""
    if name not in known:
        raise InputError(f'{table}: {key} = "{name}" is not known{nearest(name, known)}')
    parameters = inspect.signature(known[name]).parameters
    for word in numbers:
        if word not in parameters:
            raise InputError(f'{table}: {key} "{name}" has no key {word!r}{nearest(word, parameters)}')
    missing = [word for word, one in parameters.items() if one.default is one.empty and word not in numbers]
    if missing:
        raise InputError(f'{table}: {key} "{name}" wants {" and ".join(missing)}.')
    try:
        return known[name](**numbers)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(f'{table}: {key} "{name}": {" ".join(str(error).split())}.') from None
