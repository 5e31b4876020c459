"""TOML text -> Input; every problem of the text at once, as sentences."""

import difflib
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.sentences import nearest, printable, sentences, shortened

# tomllib recurses on nested arrays, is quadratic in dotted keys and in digits: all are bound before it starts.
LARGEST_TEXT = 1 << 20
DEEPEST = 32
LONGEST_KEY = 512


def read_text(path: Path) -> str:
    """The text of an input file. Raises InputError."""
    name = printable(str(path))
    try:
        with path.open("rb") as file:  # of a device there is no end
            raw = file.read(LARGEST_TEXT + 1)
            size = max(len(raw), path.stat().st_size)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file{_neighbours(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not an input file{_inside(path)}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}.") from None
    if size > LARGEST_TEXT:
        raise InputError(f"{name}: {size} bytes; an input file has at most {LARGEST_TEXT}. Is it really TOML?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not UTF-8 text (byte {error.start}). Is it really TOML?") from None


def read_input(text: str, file: str, settings: Sequence[str] = ()) -> Input:
    """Check a whole input file.

    `file` names it in messages; `settings` are "--set" overrides such as "phase.teacher.epochs=3".
    Raises InputError with every problem found.
    """
    file = printable(file)
    raw = _parse(text, file)
    for setting in settings:
        _override(raw, setting)
    try:
        given = Input.model_validate(raw)
    except ValidationError as error:
        raise InputError(*sentences(error, raw, file)) from None
    _refuse_endless_numbers(raw, "", file)
    return given


def _parse(text: str, file: str) -> dict[str, Any]:
    _refuse_excess(text, file)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not valid TOML: {printable(str(error))}.") from None


def _refuse_excess(text: str, title: str) -> None:
    """What tomllib would take minutes for. Raises InputError."""
    bare = _TEXTS.sub(lambda found: "" if found[0].startswith("#") else '"', text)
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket[0] in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise InputError(f"{title}: brackets nested {deepest} deep; at most {DEEPEST} are read.")
    words = [found[0] for found in _WORDS.finditer(bare)]
    longest = max(map(len, words), default=0)
    if longest > LONGEST_KEY:
        raise InputError(f"{title}: a key or number of {longest} characters; at most {LONGEST_KEY} are read.")
    parts = max((word.count(".") for word in words), default=0) + 1
    if parts > DEEPEST:
        raise InputError(f"{title}: a key of {parts} parts; at most {DEEPEST} are read.")


# Texts and comments; one that does not end goes to the end. What is possessive (*+) cannot be tried twice.
_TEXTS = re.compile(
    r'"""(?:\\.|(?!""")[^\\])*+(?:"""|)'
    r"|'''(?:(?!''').)*+(?:'''|)"
    r'|"(?:\\.|[^"\\\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
_BRACKETS = re.compile(r"[\[\]{}]")
# Keys and numbers, dotted; a quote stands for a text.
_WORDS = re.compile(r'[\w+:"-]+(?:[ \t]*\.[ \t]*[\w+:"-]+)*')


def _refuse_endless_numbers(value: Any, place: str, file: str) -> None:
    """Keys of any type, as options of the user's own network, may hold inf and nan as well. Raises InputError."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{file}: {printable(place)} = {value}: expected a finite number.")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        _refuse_endless_numbers(item, f"{place}.{key}" if place else str(key), file)


def _override(raw: dict[str, Any], setting: str) -> None:
    """Set one key: table.key=value; phases by name: phase.NAME.key=value."""
    where, equals, value = setting.partition("=")
    keys = where.strip().split(".")
    shown = f"--set {shortened(printable(setting))}"
    _refuse_excess(where, shown)
    _refuse_excess(value, shown)
    if not equals or len(keys) < 2:
        raise InputError(f"{shown}: expected TABLE.KEY=VALUE, such as phase.teacher.epochs=3.")
    table: Any = raw
    if keys[0] == "phase" and len(keys) > 2:
        # a phase's name may itself contain dots
        phases = [p for p in raw.get("phase", []) if isinstance(p, dict)]
        name = ".".join(keys[1:-1])
        table = next((p for p in phases if p.get("name") == name), None)
        if table is None:
            names = [str(p.get("name")) for p in phases]
            raise InputError(f"{shown}: no phase is named {name!r}{nearest(name, names)}")
    else:
        for key in keys[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
    if isinstance(table, list):
        known = ", ".join(str(p.get("name")) for p in table if isinstance(p, dict))
        raise InputError(f"{shown}: expected phase.NAME.KEY=VALUE; the phases are {known}.")
    if not isinstance(table, dict):
        raise InputError(f"{shown}: {printable('.'.join(keys[:-1]))} is not a table.")
    table[keys[-1]] = _value(value.strip())


def _value(text: str) -> Any:
    """A TOML value; anything that is not one is taken as a string, so that quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return text


def _neighbours(path: Path) -> str:
    """The end of a sentence: the TOML file nearest in name to one that is not there."""
    near = difflib.get_close_matches(path.name, _toml_files(path.parent), 1)
    return f"; did you mean {printable(str(path.parent / near[0]))}?" if near else "."


def _inside(folder: Path) -> str:
    """The end of a sentence: the TOML files in a folder."""
    names = _toml_files(folder)
    return f"; it holds {printable(', '.join(names[:5]))}{', ...' if len(names) > 5 else ''}." if names else "."


def _toml_files(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.glob("*.toml"))
    except OSError:
        return []
