"""Expressions of numbers and parameters: tokens to postfix code, and its value. No recursion but for parentheses."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from app.plan.circuits.circuit import Angle, Parameter
from app.plan.circuits.qasm.tokens import Tokens

DEEPEST = 64
LARGEST_INTEGER = 2**53

Value: TypeAlias = int | float | Parameter


class Formal(NamedTuple):
    """A parameter of a gate definition, by its place."""

    place: int


Code: TypeAlias = tuple[Value | Formal | str, ...]
Scope: TypeAlias = Mapping[str, "Value | Formal"]

CONSTANTS: dict[str, float] = {
    "pi": math.pi,
    "π": math.pi,
    "tau": math.tau,
    "τ": math.tau,
    "euler": math.e,
    "ℇ": math.e,
}


def parse(tokens: Tokens, scope: Scope, version: int) -> Code:
    """The postfix code of the expression that comes next. Raises InputError."""
    code: list[Value | Formal | str] = []
    _sum(tokens, scope, version, code, 0)
    return tuple(code)


def _sum(tokens: Tokens, scope: Scope, version: int, code: list, depth: int) -> None:
    _product(tokens, scope, version, code, depth)
    while tokens.next in ("+", "-"):
        sign = tokens.take()
        _product(tokens, scope, version, code, depth)
        code.append(sign)


def _product(tokens: Tokens, scope: Scope, version: int, code: list, depth: int) -> None:
    _signed(tokens, scope, version, code, depth)
    while tokens.next in ("*", "/"):
        sign = tokens.take()
        _signed(tokens, scope, version, code, depth)
        code.append("exact/" if sign == "/" and version == 3 else sign)


def _signed(tokens: Tokens, scope: Scope, version: int, code: list, depth: int) -> None:
    if depth > DEEPEST:
        tokens.refuse(f"an expression is nested too deep; at most {DEEPEST} parentheses and powers are supported")
    negative = False
    while tokens.next in ("-", "+"):
        negative ^= tokens.take() == "-"
    _primary(tokens, scope, version, code, depth)
    if tokens.next == "**" or tokens.next == "^":
        if tokens.next == "^" and version == 3:
            tokens.fail("in OpenQASM 3 a power is written **; ^ on bits is not supported")
        tokens.take()
        _signed(tokens, scope, version, code, depth + 1)
        code.append("**")
    if negative:
        code.append("neg")


def _primary(tokens: Tokens, scope: Scope, version: int, code: list, depth: int) -> None:
    token = tokens.next
    if token[:1].isdigit() or token[:1] == ".":
        code.append(_number(tokens))
    elif token == "(":
        tokens.take()
        _sum(tokens, scope, version, code, depth + 1)
        tokens.expect(")")
    elif token in scope:
        code.append(scope[tokens.take()])
    elif token in CONSTANTS:
        code.append(CONSTANTS[tokens.take()])
    elif token in UNARY and token != "neg":
        tokens.take()
        tokens.expect("(")
        _sum(tokens, scope, version, code, depth + 1)
        tokens.expect(")")
        code.append(token)
    else:
        tokens.fail(
            f"expected a number, {', '.join([*scope, 'pi', 'tau', 'euler'][:12])} or a function of {_FUNCTIONS}"
        )


def _number(tokens: Tokens) -> int | float:
    token = tokens.take()
    if token.isdecimal() and len(token) < 16:
        return int(token)
    try:
        number = float(token)
    except ValueError:
        tokens.fail("expected a number", tokens.at - 1)
    if not math.isfinite(number):
        tokens.fail("the number is too large for a double", tokens.at - 1)
    if token.isdecimal():
        tokens.fail(f"an integer must be below {LARGEST_INTEGER}", tokens.at - 1)
    return number


def evaluate(code: Code, actual: Sequence[Value] = ()) -> Value:
    """Its value with these values of a definition's parameters. Raises ValueError with a sentence."""
    if len(code) == 1 and not isinstance(code[0], str | Formal):
        return code[0]
    stack: list[Value] = []
    for item in code:
        if isinstance(item, str):
            right = stack.pop()
            stack.append(UNARY[item](right) if item in UNARY else _binary(item, stack.pop(), right))
        elif isinstance(item, Formal):
            stack.append(actual[item.place])
        else:
            stack.append(item)
    return stack.pop()


def angle(code: Code, actual: Sequence[Value] = ()) -> Angle:
    """Its value as an angle. Raises ValueError with a sentence."""
    value = evaluate(code, actual)
    return value if isinstance(value, Parameter) else float(value)


def _binary(sign: str, left: Value, right: Value) -> Value:
    if isinstance(left, Parameter) or isinstance(right, Parameter):
        return _affine(sign, left, right)
    if sign == "exact/" and isinstance(left, int) and isinstance(right, int) and right and left % right:
        raise ValueError(
            f"{left}/{right} divides integers, which OpenQASM 3 rounds to {int(left / right)}; write {left}.0/{right}"
        )
    try:
        value = _BINARY[sign](left, right)
    except ZeroDivisionError:
        raise ValueError(f"{left} {sign.removeprefix('exact')} {right} divides by zero") from None
    except (OverflowError, ValueError):
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{left} {sign.removeprefix('exact')} {right} is not a finite real number")
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return float(value)
    return value


def _affine(sign: str, left: Value, right: Value) -> Value:
    if isinstance(left, Parameter) and isinstance(right, Parameter):
        if sign in ("+", "-") and left.index == right.index:
            flip = 1.0 if sign == "+" else -1.0
            return Parameter(left.index, left.scale + flip * right.scale, left.offset + flip * right.offset)
        raise ValueError(
            f"an angle joins two input parameters by {sign.removeprefix('exact')}; it must be a * parameter + b with "
            "numbers a and b and one parameter"
        )
    if isinstance(left, Parameter):
        number = float(right)  # type: ignore[arg-type]
        if sign in ("+", "-"):
            return left._replace(offset=left.offset + (number if sign == "+" else -number))
        if sign == "*" or (sign in ("/", "exact/") and number != 0):
            factor = number if sign == "*" else 1 / number
            return Parameter(left.index, left.scale * factor, left.offset * factor)
    elif isinstance(right, Parameter):
        if sign == "+":
            return right._replace(offset=left + right.offset)
        if sign == "-":
            return Parameter(right.index, -right.scale, left - right.offset)
        if sign == "*":
            return Parameter(right.index, left * right.scale, left * right.offset)
    raise _not_affine(sign.removeprefix("exact"))


def _not_affine(what: str) -> ValueError:
    return ValueError(
        f"an angle applies {what} to an input parameter; it must be a * parameter + b with numbers a and b"
    )


def _power(left: int | float, right: int | float) -> int | float:
    """left ** right without large integers on the way."""
    value = math.pow(left, right)
    if isinstance(left, int) and isinstance(right, int) and right >= 0 and abs(value) < LARGEST_INTEGER:
        return int(value)
    return value


def _negative(value: Value) -> Value:
    if isinstance(value, Parameter):
        return Parameter(value.index, -value.scale, -value.offset)
    return -value


def _function(name: str, of: Callable[[float], float]) -> Callable[[Value], Value]:
    def apply(value: Value) -> Value:
        if isinstance(value, Parameter):
            raise _not_affine(name)
        try:
            return of(value)
        except (ValueError, OverflowError):
            raise ValueError(f"{name}({value}) is not a finite real number") from None

    return apply


_BINARY: dict[str, Callable] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "exact/": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
    "**": _power,
}
UNARY: dict[str, Callable[[Value], Value]] = {
    "neg": _negative,
    **{
        name: _function(name, of)
        for name, of in {
            "sin": math.sin,
            "cos": math.cos,
            "tan": math.tan,
            "arcsin": math.asin,
            "arccos": math.acos,
            "arctan": math.atan,
            "exp": math.exp,
            "ln": math.log,
            "log": math.log,
            "sqrt": math.sqrt,
        }.items()
    },
}
_FUNCTIONS = ", ".join(name for name in UNARY if name != "neg")
