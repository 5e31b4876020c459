"""Whether the condition of a filter is true, of each record."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

import numpy as np

from app.data.preparing.records import Block, column, is_text
from app.errors import DataError
from app.inputfile.conditions import Condition, name_of

COMPARISONS: Mapping[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: Mapping[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
}
Value = np.ndarray | bool | int | float | str


def true_of(condition: Condition, block: Block) -> np.ndarray:
    """(n,) bool. A comparison with a number that is not finite is false, as in IEEE 754.

    Raises DataError: no such column, one with several numbers a record, texts compared with numbers.
    """
    try:
        with np.errstate(all="ignore"):
            found = _value(condition.tree, condition, block)
    except (TypeError, OverflowError, ValueError) as error:
        raise DataError(f"{_where(condition, block)} cannot be computed: {error}.") from error
    return _truth(found, condition, block)


def _value(node: ast.expr, condition: Condition, block: Block) -> Value:
    name = name_of(node)
    if name is not None:
        return _column(name, condition, block)
    if isinstance(node, ast.Constant):
        return node.value  # type: ignore[return-value]  # bool, int, float or str: app.inputfile.conditions has looked
    if isinstance(node, ast.Compare):
        return _comparison(node, condition, block)
    if isinstance(node, ast.BoolOp):
        parts = [_truth(_value(one, condition, block), condition, block) for one in node.values]
        return (np.logical_and if isinstance(node.op, ast.And) else np.logical_or).reduce(parts)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, condition, block)
        if isinstance(node.op, ast.Not):
            return ~_truth(inner, condition, block)
        number = _number(inner, condition, block)
        return np.negative(number) if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp):
        left, right = (_number(_value(one, condition, block), condition, block) for one in (node.left, node.right))
        return ARITHMETIC[type(node.op)](left, right)
    raise TypeError(f"{type(node).__name__} in a condition")


def _comparison(node: ast.Compare, condition: Condition, block: Block) -> np.ndarray:
    """Several in a row are true where each is: 1 < x <= 3."""
    left, found = _value(node.left, condition, block), np.ones(len(block), bool)
    for sign, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(right, ast.List | ast.Tuple):
            each = [_compared(operator.eq, left, _value(one, condition, block), condition, block) for one in right.elts]
            inside = np.logical_or.reduce(each)
            found = found & (inside if isinstance(sign, ast.In) else ~inside)
        else:
            other = _value(right, condition, block)
            found = found & _compared(COMPARISONS[type(sign)], left, other, condition, block)
            left = other
    return found


def _compared(how: Callable, left: Value, right: Value, condition: Condition, block: Block) -> np.ndarray:
    if _texts(left) != _texts(right):
        raise DataError(
            f"{_where(condition, block)} compares text with numbers; words alone stand in"
            " quotes, and a column of CSV in which any value is no number holds text."
        )
    return np.broadcast_to(how(np.asarray(left) if isinstance(left, str) else left, right), len(block))


def _column(name: str, condition: Condition, block: Block) -> np.ndarray:
    found = column(block, name, f"where = {condition.text!r}")
    if found.ndim != 1:
        raise DataError(
            f"{_where(condition, block)} uses {name!r}, of which a record has {math.prod(found.shape[1:])} numbers;"
            " expected one."
        )
    return found if found.dtype.kind in "fUb" or found.dtype == np.uint64 else found.astype(np.int64)


def _truth(value: Value, condition: Condition, block: Block) -> np.ndarray:
    found = np.asarray(value)
    if found.dtype != bool:
        raise DataError(f"{_where(condition, block)} takes a number or a word for a condition; compare it: x > 0.")
    return np.broadcast_to(found, len(block))


def _number(value: Value, condition: Condition, block: Block) -> Value:
    if _texts(value):
        raise DataError(f"{_where(condition, block)} computes with text; only numbers can be added or multiplied.")
    return value.astype(np.int64) if isinstance(value, np.ndarray) and value.dtype == bool else value


def _texts(value: Value) -> bool:
    return is_text(value) if isinstance(value, np.ndarray) else isinstance(value, str)


def _where(condition: Condition, block: Block) -> str:
    return f"{block.where}: where = {condition.text!r}"
