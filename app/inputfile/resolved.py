"""An Input with all its defaults as TOML text again, for every file that a run writes."""

import re
from collections.abc import Mapping
from typing import Any

from app.inputfile.models import Input

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def resolved_dict(given: Input) -> dict[str, Any]:
    """Plain dicts, lists and scalars with every default; keys and tables without a value are left out."""
    idle = {"data": not given.has_data, "network": given.network.kind == "none"}
    return _plain(given.model_dump(exclude={name for name, without in idle.items() if without}))


def resolved_text(given: Input) -> str:
    """TOML that reads back as the same Input."""
    lines: list[str] = []
    for name, table in resolved_dict(given).items():
        for one in table if isinstance(table, list) else [table]:
            lines += [f"[[{name}]]" if isinstance(table, list) else f"[{name}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in one.items()]
            lines += [""]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else str(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    """A basic string of TOML."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda c: f"\\u{ord(c[0]):04x}", escaped) + '"'
