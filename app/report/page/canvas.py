"""Drawing without a display: how all pictures of the page look, and a picture's bytes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

# Okabe and Ito: told apart by all eyes.
BLUE, VERMILION, GREEN, ORANGE, SKY, PINK = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#8A8A8A"
WIDTH_IN = 6.4
_DPI = 150
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names of a file are not formulas
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside looks alike; letters that no font here has are boxes, without a word about it."""
    import matplotlib  # half a second and much memory that few commands need

    with warnings.catch_warnings(), matplotlib.rc_context(_STYLE):
        warnings.simplefilter("ignore", UserWarning)
        yield


def figure(height_in: float, width_in: float = WIDTH_IN) -> Any:
    """An empty one, as wide as half the page."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")


def png(drawn: Any) -> bytes:
    """The file of a figure."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": "phalanx"})
    return file.getvalue()


def logarithmic_y(axes: Any) -> None:
    """Plain numbers at the powers of ten, or 1e-07 far from 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def shortened(text: str, letters: int) -> str:
    """At most so many letters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
