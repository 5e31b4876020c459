"""Pieces of HTML. Every text that comes from a file goes through `safe`."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.report.log import escaped
from app.report.page.style import STYLE

BEGIN = "<!doctype html><!-- phalanx report -->"
_SHORT, _LONG = 24, 40  # letters of a cell that stays on one line, and of one that wants room
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a text that slipped through runs nothing


class Picture(NamedTuple):
    """`file`: its name in the report folder. `alt`: what it shows, for those who cannot see it. `width`: "half" of the
    page, "large" or "whole"; the last two scroll on a phone.
    """

    file: str
    png: bytes
    caption: str
    alt: str
    width: str = "half"


class Section(NamedTuple):
    """A part of the page; one without a body is left out."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z]+", "-", self.title.lower())


def file_name(*parts: str) -> str:
    """`curves-teacher.png`: a name that stays in its folder, whatever the parts hold."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]", "_", part)[:80].lstrip(".") for part in parts) + ".png"


def safe(text: object) -> str:
    """A text as HTML shows it, each of its lines without hidden characters."""
    return html.escape("\n".join(map(escaped, str(text).expandtabs(4).split("\n"))))


def page(title: str, head: str, sections: Sequence[Section], foot: str) -> str:
    """The whole file."""
    shown = [section for section in sections if section.body]
    links = "".join(f'<a href="#{one.anchor}">{safe(one.title)}</a>' for one in shown)
    bodies = "".join(f'<section id="{one.anchor}"><h2>{safe(one.title)}</h2>{one.body}</section>\n' for one in shown)

    return (
        f'{BEGIN}\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{safe(title)}</title>\n<style>\n{STYLE}</style></head>\n"
        f'<body>\n<header>{head}</header>\n<nav aria-label="sections">{links}</nav>\n'
        f"<main>\n{bodies}</main>\n<footer>{foot}</footer>\n</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Cells are texts; the first `left` columns are aligned left, the others right."""

    def line(cells: Sequence[str], tag: str) -> str:
        sizes = ["short" if len(cell) <= _SHORT else "long" if len(cell) > _LONG else "" for cell in cells]
        kinds = [size if column < left else "n" for column, size in enumerate(sizes)]
        marked = (
            f"<{tag}{f' class={kind}' if kind else ''}>{safe(cell)}</{tag}>"
            for kind, cell in zip(kinds, cells, strict=True)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def pairs(figures: Iterable[tuple[str, str]]) -> str:
    """Names and what belongs to them, a line each."""
    made = "".join(f"<tr><th>{safe(name)}</th><td>{safe(value)}</td></tr>" for name, value in figures)
    return f'<div class="scroll"><table class="pairs">{made}</table></div>' if made else ""


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Numbers that matter, with what they are: `("samples/s", "12,000")`."""
    made = "".join(f"<div><dd>{safe(value)}</dd><dt>{safe(name)}</dt></div>" for name, value in figures)
    return f'<dl class="tiles">{made}</dl>' if made else ""


def pictures(shown: Iterable[Picture | None]) -> str:
    """Beside each other where there is room."""
    made = "".join(map(_figure, (one for one in shown if one is not None)))
    return f'<div class="pictures">{made}</div>' if made else ""


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    width, height = (int.from_bytes(picture.png[at : at + 4], "big") for at in (16, 20))  # of the PNG's first chunk
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{safe(picture.alt)}">'
    inner = image if picture.width == "half" else f'<div class="scroll">{image}</div>'
    return f"<figure class={picture.width}>{inner}<figcaption>{safe(picture.caption)}</figcaption></figure>"


def folded(summary: str, body: str) -> str:
    """HTML behind a line that opens it."""
    return f"<details><summary>{safe(summary)}</summary>{body}</details>"


def verbatim(text: str) -> str:
    """A text of several lines as it is."""
    return f"<pre>{safe(text)}</pre>"


def paragraph(text: str, kind: str = "") -> str:
    """kind: "" or a class of the style sheet."""
    return f"<p{f' class={kind}' if kind else ''}>{safe(text)}</p>"


def heading(text: str) -> str:
    """Of a phase, inside a section."""
    return f"<h3>{safe(text)}</h3>"
