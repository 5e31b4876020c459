"""The types that keys have beyond TOML's own: byte counts, names, paths, fractions."""

import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_UNITS |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


class Table(BaseModel):
    """One table of the input file: no unknown keys, no silent conversion, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _bytes(value: Any) -> Any:
    """ "256 MiB" -> 268435456."""
    if not isinstance(value, str):
        return value
    match = _BYTES.fullmatch(value)
    if not match or match[2] not in _UNITS:
        raise ValueError(f'a number of bytes such as "256 MiB", in one of {", ".join(_UNITS)}')
    return int(float(match[1]) * _UNITS[match[2]])


def _expanded(value: str) -> str:
    """Environment variables and ~ replaced; one that is not set is the user's mistake, not an empty string."""
    text = os.path.expanduser(os.path.expandvars(value))
    unset = re.search(r"\$(\w+|\{[^}]*\})", text)
    if unset:
        raise ValueError(f"{unset[0]} to be set in the environment, and it is not")
    if "\0" in text:
        raise ValueError("a path without NUL characters")
    return text


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError("letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64")
    return value


def kind_of(value: Any) -> str:
    """What tells the tables of a union apart, before or after they are read."""
    return str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None))


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_bytes)]
PathText = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_expanded)]
PathList = Annotated[tuple[PathText, ...], Field(strict=False, min_length=1), BeforeValidator(_as_list)]
Name = Annotated[str, AfterValidator(_name)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1, le=2**40)]
Width = Annotated[int, Field(ge=1, le=2**24)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Widths = Annotated[tuple[Width, ...], Field(strict=False)]
Positives = Annotated[tuple[Positive, ...], Field(strict=False)]
