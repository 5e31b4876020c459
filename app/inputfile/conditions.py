"""The conditions of `filter` steps: a text such as `year >= 1990 and not kind in ["a", "b"]`, read and never executed.

A small part of Python's expressions: names of columns, numbers, words in quotes, comparisons, `in` a list, `and`, `or`,
`not`, + - * / % and brackets. A name with other characters than letters, digits and _ stands in backticks, or as
col("a/b").
"""

import ast
from typing import NamedTuple

COLUMN = "col"
DEEPEST = 50  # brackets within brackets
_WORDS = "and, or, not, in, comparisons, + - * / %, brackets, names of columns, numbers, and words in quotes"
_OPERATORS = (
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.And, ast.Or, ast.Not,
    ast.USub, ast.UAdd, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Load,
)  # fmt: skip


class Condition(NamedTuple):
    """text: as given. tree: of the nodes that `parse` lets through alone. columns: their names, each once, in order."""

    text: str
    tree: ast.expr
    columns: tuple[str, ...]


def parse(text: str) -> Condition:
    """Raises ValueError with what was expected instead."""
    try:
        tree = ast.parse(_without_backticks(text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error) or "too deep"
        raise ValueError(f"a condition, which this is not ({reason}): {_WORDS}") from None
    names: dict[str, None] = {}
    _look(tree, names, 0)
    if not names:
        raise ValueError("a condition that names a column")
    if not isinstance(tree, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Name | ast.Call):
        raise ValueError("a condition, not a number; compare it with something")
    return Condition(text, tree, tuple(names))


def name_of(node: ast.expr) -> str | None:
    """The column that a node stands for; None: for none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        return str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else None
    return None


def _look(node: ast.AST, names: dict[str, None], depth: int) -> None:
    """Notes the columns below a node. Raises ValueError for anything that a condition is not made of."""
    if depth > DEEPEST:
        raise ValueError(f"brackets and operators at most {DEEPEST} deep in one another")
    if isinstance(node, ast.Call):
        if not _is_column(node):
            raise ValueError('no call of a function; only col("NAME") for a column is known')
        names[str(name_of(node))] = None
        return
    if isinstance(node, ast.Name):
        names[node.id] = None
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str):
            raise ValueError(f"numbers and words, not {node.value!r}")
    elif isinstance(node, ast.Compare):
        if isinstance(node.left, ast.List | ast.Tuple):
            raise ValueError('a list after "in" alone')
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn) and not _is_list(right):
                raise ValueError('a list of numbers or words after "in": in [1, 2]')
            if _is_list(right) and not isinstance(operator, ast.In | ast.NotIn):
                raise ValueError('a list after "in" alone')
    elif not isinstance(node, (ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.List, ast.Tuple, *_OPERATORS)):
        word = type(node).__name__
        raise ValueError(f"no {word} in a condition; known: {_WORDS}")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.List | ast.Tuple) and not isinstance(node, ast.Compare):
            raise ValueError('a list after "in" alone')
        _look(child, names, depth + 1)


def _is_column(node: ast.Call) -> bool:
    """col("NAME")"""
    named = isinstance(node.func, ast.Name) and node.func.id == COLUMN and len(node.args) == 1 and not node.keywords
    return named and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)


def _is_list(node: ast.AST) -> bool:
    """Of numbers and words; a minus may stand before a number."""
    if not isinstance(node, ast.List | ast.Tuple):
        return False
    inner = [one.operand if isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.USub) else one for one in node.elts]
    return bool(inner) and all(isinstance(one, ast.Constant) for one in inner)


def _without_backticks(text: str) -> str:
    """`a/b` as col("a/b"), except within quotes. Raises ValueError for a quote or backtick that is not closed."""
    found, at = [], 0
    while at < len(text):
        sign = text[at]
        if sign not in "'\"`":
            found.append(sign)
            at += 1
            continue
        end = at + 1
        while end < len(text) and text[end] != sign:
            end += 2 if text[end] == "\\" and sign != "`" else 1
        if end >= len(text):
            raise ValueError(f"the {sign} at character {at + 1} is not closed")
        inner = text[at + 1 : end]
        found.append(f"{COLUMN}({inner!r})" if sign == "`" else text[at : end + 1])
        at = end + 1
    return "".join(found)
