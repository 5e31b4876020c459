"""What repeated, interleaved measurements say: medians and quartiles of ratios, and the last line of a benchmark."""

import json
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Ratio(NamedTuple):
    """Ours over the peer's: median and quartiles of the ratios of single rounds, in which drift cancels."""

    median: float
    lower: float
    upper: float
    peer: str


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of round `number`: each comes first, second, ... equally often, and both ways round."""
    names = list(names) if number % 2 == 0 else list(reversed(names))
    start = (number // 2) % len(names)
    return names[start:] + names[:start]


def ratio(ours: Sequence[float], peers: Sequence[float], peer: str) -> Ratio:
    """Compare two lists of times of the same rounds."""
    single = [one / other for one, other in zip(ours, peers, strict=True)]
    if len(single) < 2:
        return Ratio(single[0], single[0], single[0], peer)
    lower, median, upper = statistics.quantiles(single, n=4, method="inclusive")
    return Ratio(median, lower, upper, peer)


def last_line(name: str, ratios: dict[str, Ratio], more: dict[str, object]) -> str:
    """The JSON object that ends a benchmark's output."""
    cases = {
        case: {
            "ours_over_peer": round(one.median, 4),
            "quartiles": [round(one.lower, 4), round(one.upper, 4)],
            "peer": one.peer,
        }
        for case, one in ratios.items()
    }
    return json.dumps({"name": name, "ratios": cases, **more})
