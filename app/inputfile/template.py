"""A commented TOML text with every key, its default, range and line of documentation, from the models."""

import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from app.errors import InputError
from app.inputfile.kinds import Table
from app.inputfile.layers import LAYERS
from app.inputfile.models import Data, Grid, Run
from app.inputfile.networks import NETWORKS
from app.inputfile.phases import PHASES
from app.inputfile.sentences import nearest

_TABLES: dict[str, type[Table]] = {"run": Run, "grid": Grid, "data": Data}
_SANITY = 1 << 20  # larger bounds only catch typing errors and say nothing to a reader
_EXAMPLES = {"name": "NAME", "file": "data.h5", "inputs": "images", "targets": "labels", "kind": "my.py:build"}


def template(kind: str | None = None) -> str:
    """A whole input file, or the table of one kind of phase or network, or one of run, grid, data.

    Keys with a default are commented out. Raises InputError when the kind is not known.
    """
    if kind is None:
        tables = [*_TABLES, "lenet", *PHASES]
        return "\n".join(template(name) for name in tables)
    if kind in _TABLES:
        return _table(f"[{kind}]", _TABLES[kind], None)
    if kind in PHASES:
        return _table("[[phase]]", PHASES[kind], kind)
    if kind in NETWORKS:
        return _table("[network]", NETWORKS[kind], kind) + (_entries() if kind == "layers" else "")
    known = [*_TABLES, *NETWORKS, *PHASES]
    raise InputError(f"template {kind}: no such kind{nearest(kind, known)}")


def _table(title: str, model: type[Table], kind: str | None) -> str:
    lines = [f"# {(model.__doc__ or '').strip()}", title]
    for name, field in model.model_fields.items():
        lines.append(_key(name, field, kind))
    return "\n".join(lines) + "\n"


def _entries() -> str:
    """The keys of each kind of layer, as comments."""
    lines = []
    for kind, model in LAYERS.items():
        lines.append(f'\n# {{ kind = "{kind}", ... }}: {(model.__doc__ or "").strip()}')
        for name, field in model.model_fields.items():
            if name != "kind":
                text = f"{name} = {'...' if field.is_required() else _toml(field.default)}"
                lines.append(f"#   {text:<30} # {_notes(field)}")
    return "\n".join(lines) + "\n"


def _key(name: str, field: FieldInfo, kind: str | None) -> str:
    if name == "kind" and kind is not None:
        value = f"my_networks.py:{kind.partition(':')[2]}" if ":" in kind else kind
        return f'kind = "{value}"'
    example = kind if name == "name" and kind else _EXAMPLES.get(name, "")
    text = f"{name} = {_toml(example if field.is_required() else field.default)}"
    if not field.is_required():
        text = f"# {text}" if field.default is not None else f"# {name} ="
    if field.examples:
        text = f"{name} = {_toml(field.examples[0])}"
    return f"{text:<34} # {_notes(field)}"


def _notes(field: FieldInfo) -> str:
    return "; ".join(note for note in (field.description, _choices(field.annotation), _range(field)) if note)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f'"{value >> 20} MiB"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return str(value)


def _quoted(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else f'"{key}"'


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(_toml, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        return next(filter(None, map(_choices, get_args(annotation))), "")
    return ""


def _range(field: FieldInfo) -> str:
    """Bounds of a number: those of the key itself and of an optional key's inner type."""
    metadata = list(field.metadata)
    for inner in get_args(field.annotation):
        metadata += [
            m for part in getattr(inner, "__metadata__", ()) for m in (getattr(part, "metadata", None) or [part])
        ]
    words = []
    for sign, name in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
        bounds = [getattr(m, name, None) for m in metadata]
        words += [f"{sign} {bound:g}" for bound in bounds if bound is not None and bound < _SANITY]
    return " and ".join(dict.fromkeys(words))
