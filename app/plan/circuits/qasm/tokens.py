"""Text to tokens, and the place in them where reading stands."""

import re
from itertools import islice
from typing import NoReturn

from app.errors import InputError

LARGEST_TEXT = 32 * 2**20

# Comments and white space, then one token or the end. Possessive, so that no text takes more than one pass.
_TOKEN = re.compile(
    r"""(?:\s++|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z))*+
    ([^\W\d]\w*+|(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|\$\d++|"[^"\n]*+"|->|==|!=|<=|>=|&&|\|\||\*\*|\+\+|\S|\Z)""",
    re.VERBOSE,
)
_COMMENT_OR_STRING = re.compile(r'//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)|"[^"\n]*+"')


class Tokens:
    """The tokens of a text, "" at its end. `at` is the number of the next one. Raises InputError."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.at = 0
        self.all: list[str] = []
        if len(text) > LARGEST_TEXT:
            raise InputError(
                f"{name}: found {len(text)} characters of OpenQASM; at most {LARGEST_TEXT} (32 MiB) are supported; "
                "cut the circuit into several files"
            )
        if "/*" in text and _ends_in_comment(text):
            raise InputError(f"{name}, line {text.count(chr(10)) + 1}: found the end inside a comment; expected */")
        self.all = _TOKEN.findall(text)
        # So that looking a few tokens ahead needs no check.
        self.all += [""] * 8

    @property
    def next(self) -> str:
        """The next token, without taking it."""
        return self.all[self.at]

    def take(self) -> str:
        """The next token, taken. The end is never passed."""
        token = self.all[self.at]
        if token:
            self.at += 1
        return token

    def took(self, token: str) -> bool:
        """Whether the next token is this one; it is taken if so."""
        if self.all[self.at] == token:
            self.at += 1
            return True
        return False

    def expect(self, token: str) -> None:
        """Take this token. Raises InputError for another."""
        if self.all[self.at] != token:
            self.fail(f"expected {token!r}")
        self.at += 1

    def identifier(self, what: str) -> str:
        """Take a name. `what` it names, for the mistake."""
        token = self.all[self.at]
        if not token.isidentifier():
            self.fail(f"expected {what}")
        self.at += 1
        return token

    def line(self, at: int) -> int:
        """The line, from 1, of a token."""
        match = next(islice(_TOKEN.finditer(self.text), at, None), None)
        return self.text.count("\n", 0, match.start(1) if match else len(self.text)) + 1

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        """Raise InputError: what was found at a token (the next one by default), and what was expected."""
        token = self.all[self.at if at is None else at]
        shown = repr(token if len(token) < 60 else token[:57] + "...") if token else "the end of the text"
        self.refuse(f"found {shown}; {expected}", at)

    def refuse(self, sentence: str, at: int | None = None) -> NoReturn:
        """Raise InputError: a sentence about a token's line (the next one by default)."""
        raise InputError(f"{self.name}, line {self.line(self.at if at is None else at)}: {sentence}")


def _ends_in_comment(text: str) -> bool:
    last = None
    for match in _COMMENT_OR_STRING.finditer(text):
        last = match
    return last is not None and last[0].startswith("/*") and (len(last[0]) < 4 or not last[0].endswith("*/"))
