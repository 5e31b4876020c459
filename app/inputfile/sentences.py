"""Pydantic's findings as sentences of a user: file, table, key, what was expected, what to try."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from app.inputfile.layers import LAYERS
from app.inputfile.models import Input
from app.inputfile.networks import NETWORKS
from app.inputfile.phases import PHASES
from app.inputfile.preparing import STEPS
from app.inputfile.quantum import CircuitTable, Noise
from app.inputfile.using import Monitor

_OWN = ("student", "architecture")  # tables of networks inside those of phases
_INNER = {"circuit": CircuitTable, "noise": Noise, "monitor": Monitor}  # tables inside those of phases


TOLD = 50  # problems of one file


def printable(text: str) -> str:
    """A text in which no character moves the cursor, colours, or hides."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    """A text that leaves room in a sentence."""
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the known name most like the given one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known) or 'none'}."


def sentences(error: ValidationError, raw: dict[str, Any], file: str) -> list[str]:
    """One sentence a problem, in the order of the file."""
    found: list[dict[str, Any]] = [dict(e) for e in error.errors()]
    deeper = {e["loc"][:n] for e in found for n in range(1, len(e["loc"]))}
    # a list whose items are wrong is also reported as too short: the items' own problems say it all
    told = [e for e in found if not (e["type"] == "too_short" and e["loc"] in deeper)]
    problems = list(dict.fromkeys(printable(_sentence(e, raw, file)) for e in told[:TOLD]))
    return [*problems, f"{file}: has {len(told) - TOLD:,} more problems."] if len(told) > TOLD else problems


def _sentence(problem: dict[str, Any], raw: dict[str, Any], file: str) -> str:
    place = _place(problem["loc"], raw)
    key = place.key
    where = f"{file}: {place.table}" if place.table else file
    found = _shown(problem.get("input"))
    kind = problem["type"]
    context = problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where}: unknown {'key' if place.table else 'table'} {key!r}{nearest(key, place.known)}"
    if kind == "missing":
        why = (
            "; only phases that neither make nor measure networks go without"
            if not place.table and key in ("data", "network")
            else ""
        )
        return f"{where}: {'the table' if not place.table else 'the key'} {key!r} is missing{_doc(place, key)}{why}."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = _kinds(problem["loc"])
        given = context.get("tag")
        if not isinstance(problem.get("input"), dict):
            return f"{where}: {key} = {found}: expected a table{_doc(place, key)}."
        known = ", ".join(f'"{k}"' for k in kinds)
        if given in (None, "None"):
            return f"{where}: the key 'kind' is missing; one of {known}."
        near = difflib.get_close_matches(given, kinds, 1, 0.6)
        return (
            f"{where}: kind = {given!r} is not known; {f'did you mean {near[0]!r}? One' if near else 'one'} of {known}."
        )
    what = str(context["error"]) if kind == "value_error" else _wanted(kind, context, problem["msg"])
    if kind == "value_error" and not key:
        return f"{where}: {what}."
    return f"{where}: {key} = {found}: expected {what}{_doc(place, key)}."


def _wanted(kind: str, context: dict[str, Any], message: str) -> str:
    """Pydantic's error type as what was expected."""
    names = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "string_type": "a text in quotes",
        "bool_type": "true or false",
        "tuple_type": "a list [...]",
        "list_type": "a list [...]",
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "finite_number": "a finite number",
    }
    if kind in names:
        return names[kind]
    if kind == "literal_error":
        return f"one of {context['expected']}".replace("'", '"')
    for bound, words in {
        "ge": "at least",
        "gt": "more than",
        "le": "at most",
        "lt": "less than",
    }.items():
        if bound in context:
            return f"{words} {context[bound]}"
    if kind == "string_pattern_mismatch":
        return f"a text that matches {context['pattern']}"
    if kind in ("too_short", "too_long"):
        wanted = context.get("min_length", context.get("max_length"))
        return f"{'at least' if kind == 'too_short' else 'at most'} {wanted} in the list"
    return message[0].lower() + message[1:]


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    text = {"True": "true", "False": "false"}.get(text, text)
    return shortened(printable(text))


class _Place:
    """Where a problem is, in the user's words: [[phase]] "teacher", key epochs."""

    def __init__(self, table: str, key: str, model: type | None) -> None:
        self.table = table
        self.key = key
        self.model = model

    @property
    def known(self) -> Iterable[str]:
        return self.model.model_fields if self.model else ()  # type: ignore[attr-defined]


def _place(location: tuple[Any, ...], raw: dict[str, Any]) -> _Place:
    if not location:
        return _Place("", "", Input)
    head, rest = location[0], list(location[1:])
    if head == "phase" and rest and isinstance(rest[0], int):
        number = rest.pop(0)
        table = raw["phase"][number]
        name = table.get("name") if isinstance(table, dict) else None
        kind = rest.pop(0) if rest and rest[0] in PHASES else None
        title = f'[[phase]] "{name}"' if isinstance(name, str) else f"[[phase]] number {number + 1}"
        if rest and rest[0] in _OWN and isinstance(table, dict) and isinstance(table.get(rest[0]), dict):
            return _of_network(f"{title}: {rest[0]}", rest[1:])
        if len(rest) > 1 and rest[0] in _INNER:
            return _Place(f"{title}: {rest[0]}", _dotted(rest[1:]), _INNER[str(rest[0])])
        if len(rest) > 2 and rest[0] == "steps" and rest[2] in STEPS:
            return _Place(f"{title}: step {int(rest[1]) + 1}, {rest[2]}", _dotted(rest[3:]), STEPS[str(rest[2])])
        return _Place(title, _dotted(rest), PHASES.get(str(kind)))
    if head == "network" and isinstance(raw.get("network"), dict):
        return _of_network("[network]", rest)
    if head in Input.model_fields and (rest or isinstance(raw.get(head), dict)):
        model = Input.model_fields[head].annotation
        return _Place(f"[{head}]", _dotted(rest), model if isinstance(model, type) else None)
    return _Place("", _dotted([head, *rest]), Input)


def _of_network(title: str, rest: list[Any]) -> _Place:
    """A place in a network's table, or in an entry of its list of layers."""
    kind = rest.pop(0) if rest and rest[0] in NETWORKS else None
    if kind == "layers" and len(rest) > 2 and rest[0] == "layers" and rest[2] in LAYERS:
        number, layer = int(rest[1]) + 1, str(rest[2])
        return _Place(f"{title}: layer {number}, {layer}", _dotted(rest[3:]), LAYERS[layer])
    return _Place(title, _dotted(rest), NETWORKS.get(str(kind)))


def _kinds(location: tuple[Any, ...]) -> Iterable[str]:
    """What a table at this place may be."""
    if location[-2:-1] == ("layers",):
        return LAYERS
    if location[-2:-1] == ("steps",):
        return STEPS
    return NETWORKS if {"network", *_OWN} & set(location) else PHASES


def _dotted(parts: Iterable[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _doc(place: _Place, key: str) -> str:
    """The key's own line of documentation."""
    field = place.model.model_fields.get(re.split(r"[.\[]", key)[0]) if place.model else None  # type: ignore[attr-defined]
    return f" ({field.description})" if field is not None and field.description else ""
