"""The steps that change records one by one, or few that follow one another: each a function of a block."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from app.data.preparing.casting import cast_values
from app.data.preparing.conditions import true_of
from app.data.preparing.records import (
    LISTED,
    Block,
    History,
    chosen,
    column,
    is_text,
    kept,
    missing,
    type_word,
    with_column,
    without_bad,
)
from app.errors import DataError
from app.inputfile.conditions import parse
from app.inputfile.preparing import Cast, Encode, Filter, OneHot, Rename, Reshape, Select, Stack, Step, Window

Categories = tuple[str | int, ...]
MANY = 65536  # categories; more are no categories


def apply(step: Step, block: Block, categories: Categories | None = None) -> Block:
    """The block after a step that is neither a window nor scaling. categories: of an encode or onehot step, in order.

    Collective over: none. Raises DataError: columns that are not there, or that the step cannot be done to.
    """
    if isinstance(step, OneHot | Encode):
        return _labelled(step, block, categories if categories is not None else tuple(step.categories or ()))
    return _STEPS[type(step)](step, block)


def finite(block: Block) -> Block:
    """The block without records that have a number that is not finite: they become bad ones."""
    found = {name: ~_finite_rows(values) for name, values in block.columns.items() if values.dtype.kind == "f"}
    if not found:
        return block
    wrong = np.logical_or.reduce(list(found.values()))

    def why(number: int) -> str:
        name = next(name for name, rows in found.items() if rows[number])
        values = block.columns[name][number].reshape(-1)
        return f"{name} is {values[~np.isfinite(values)][0]}"

    return without_bad(block, wrong, why)


def categories_of(step: OneHot | Encode, block: Block) -> Categories:
    """What occurs in the column of a step, sorted. Raises DataError: not words or whole numbers, far too many."""
    values = _category_column(step, block)
    found = sorted(one for one in set(values.tolist()) if is_text(values) or math.isfinite(one))
    if len(found) > MANY:
        raise DataError(f"{block.where}: {_what(step)}: more than {MANY:,} different values, which are no categories.")
    return tuple(found) if is_text(values) else tuple(map(int, found))


def _select(step: Select, block: Block) -> Block:
    names = chosen(block, step.columns, "select")
    return replace(block, columns={name: block.columns[name] for name in names})


def _rename(step: Rename, block: Block) -> Block:
    there = [name for name in dict.fromkeys((*step.columns, step.to)) if name in block.columns]
    if not there:
        raise DataError(missing(block.where, step.columns[0], block.columns, "rename"))
    if len(there) > 1:
        raise DataError(f"{block.where}: rename: {' and '.join(map(repr, there))} are there both, for {step.to!r}.")
    if there == [step.to]:
        return block
    old = there[0]
    done = {"kind": "rename", "from": old, "to": step.to}
    history: dict[str, History] = block.history | {step.to: (*block.history[old], done)}
    columns = {step.to if name == old else name: values for name, values in block.columns.items()}
    names = {step.to if name == old else name: one for name, one in block.names.items()}
    return replace(block, columns=columns, history=history, names=names)


def _cast(step: Cast, block: Block) -> Block:
    for name in chosen(block, step.columns, "cast"):
        values = block.columns[name]
        done = {"kind": "cast", "type": step.type}
        cast, wrong = cast_values(values, np.dtype(step.type))
        if wrong is not None and wrong.any():
            why = _not_castable(name, values, step.type)
            block = without_bad(block, wrong, why)
            cast = cast[~wrong]
        block = with_column(block, name, cast, done)
    return block


def _not_castable(name: str, values: np.ndarray, wanted: str) -> Callable[[int], str]:
    def why(number: int) -> str:
        one = values[number].reshape(-1)
        wrong = cast_values(one, np.dtype(wanted))[1]
        found = one[wrong][0] if wrong is not None and wrong.any() else one[0]
        return f"{name} is {str(found)[:40]!r}, which {wanted} cannot hold"

    return why


def _reshape(step: Reshape, block: Block) -> Block:
    values = column(block, step.column, "reshape")
    if np.prod(values.shape[1:], dtype=np.int64) != np.prod(step.shape, dtype=np.int64):
        raise DataError(
            f"{block.where}: reshape: a sample of {step.column!r} has the shape {list(values.shape[1:])}, which is not"
            f" as many numbers as {list(step.shape)}."
        )
    done = {"kind": "reshape", "shape": list(step.shape)}
    return with_column(block, step.column, values.reshape(len(values), *step.shape), done)


def _stack(step: Stack, block: Block) -> Block:
    names = chosen(block, step.columns, "stack")
    parts = [block.columns[name] for name in names]
    for name, values in zip(names, parts, strict=True):
        if is_text(values):
            raise DataError(f"{block.where}: stack: {name!r} holds text; encode it first, or leave it out.")
        if values.shape != parts[0].shape:
            shapes = f"{list(parts[0].shape[1:])}, {name!r} of {list(values.shape[1:])}"
            raise DataError(
                f"{block.where}: stack: {names[0]!r} has samples of the shape {shapes}; expected one shape."
            )
    if step.to in block.columns and step.to not in names:
        raise DataError(f"{block.where}: stack: there is a column {step.to!r} already; choose another name for to.")
    history = [{"column": name, "steps": list(block.history[name])} for name in names]
    rest = {name: values for name, values in block.columns.items() if name not in names}
    stacked = np.stack(parts, axis=-1)
    done: History = ({"kind": "stack", "columns": history},)
    return replace(block, columns=rest | {step.to: stacked}, history=block.history | {step.to: done})


def _filter(step: Filter, block: Block) -> Block:
    mask = true_of(parse(step.where), block)
    return replace(kept(block, mask), dropped=block.dropped + int(len(mask) - mask.sum()))


def _labelled(step: OneHot | Encode, block: Block, categories: Categories) -> Block:
    """Classes 0, 1, 2, ... or rows with a single 1; a value that is no category makes a bad record."""
    values = _category_column(step, block)
    if categories and isinstance(categories[0], str) != is_text(values):
        kinds = (
            "words, but the column holds numbers" if isinstance(categories[0], str) else "numbers, but it holds words"
        )
        raise DataError(f"{block.where}: {_what(step)}: the categories are {kinds}.")
    known = np.array(categories if categories else [0])
    order = np.argsort(known)
    place = np.searchsorted(known[order], values)
    place = np.where(place < len(known), place, 0)
    wrong = (known[order][place] != values) | (not categories)
    labels = order[place]
    shown = ", ".join(map(str, categories[:LISTED])) + (", ..." if len(categories) > LISTED else "")
    block = without_bad(block, wrong, lambda i: f"{step.column} is {str(values[i])[:40]!r}, none of {shown}")
    labels = labels[~wrong]
    done: dict[str, Any] = {"kind": step.kind, "categories": list(categories)}
    if isinstance(step, OneHot):
        return with_column(block, step.column, np.eye(max(1, len(categories)), dtype=np.uint8)[labels], done)
    encoded = with_column(block, step.column, labels.astype(np.int64), done)
    return replace(encoded, names=encoded.names | {step.column: tuple(map(str, categories))})


def _category_column(step: OneHot | Encode, block: Block) -> np.ndarray:
    """(n,) texts or whole numbers."""
    values = column(block, step.column, step.kind)
    if values.ndim != 1:
        raise DataError(f"{block.where}: {_what(step)}: has {list(values.shape[1:])} values a record, expected one.")
    if values.dtype.kind == "f":
        good = values[np.isfinite(values)]
        if (good != np.rint(good)).any():
            raise DataError(f"{block.where}: {_what(step)}: holds {values.dtype}, expected words or whole numbers.")
    return values


def _what(step: OneHot | Encode) -> str:
    return f"{step.kind}: the column {step.column!r}"


def _finite_rows(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values).all(axis=tuple(range(1, values.ndim)))


_STEPS: Mapping[type, Callable[[Any, Block], Block]] = {
    Select: _select,
    Rename: _rename,
    Cast: _cast,
    Reshape: _reshape,
    Stack: _stack,
    Filter: _filter,
}


def needed(steps: Sequence[Step], wanted: set[str] | None = None) -> set[str] | None:
    """The columns of the files from which these steps make the `wanted` ones; None: all, or it depends on the file."""
    for step in reversed(steps):
        if isinstance(step, Select):
            wanted = set(step.columns)
        elif wanted is None:
            continue
        elif isinstance(step, Rename):
            wanted = wanted | set(step.columns)
        elif isinstance(step, Stack):
            wanted = (wanted - {step.to}) | set(step.columns)
        elif isinstance(step, Filter):
            wanted = wanted | set(parse(step.where).columns)
        elif isinstance(step, OneHot | Encode | Reshape):
            wanted = wanted | {step.column}
        elif isinstance(step, Cast | Window):  # what they name must be there
            series = step.series if isinstance(step, Window) else None
            wanted = wanted | set(step.columns) | ({series} if series is not None else set())
    return None if wanted is None or any(set(name) & set("*?[") for name in wanted) else wanted


__all__ = ["apply", "categories_of", "finite", "needed", "type_word"]
