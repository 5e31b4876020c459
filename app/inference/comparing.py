"""How far the outputs of two forms of one network lie apart."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Answer = Callable[[np.ndarray], np.ndarray]  # (M, *stored_shape) as stored -> (M, ...) float32


def largest_difference(wanted: np.ndarray, found: np.ndarray) -> float:
    """Relative to the largest of the wanted numbers; inf where shapes differ or a number is not finite."""
    if wanted.shape != found.shape or not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return math.inf
    if not wanted.size:
        return 0.0
    difference, largest = (float(np.abs(one).max()) for one in (wanted.astype(np.float64) - found, wanted))
    return difference / largest if largest > 0 else math.inf if difference > 0 else 0.0


def compared(ours: Answer, others: Mapping[str, Answer], rows: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """By name the largest difference over batches of these sizes, each from the start of the rows (as stored).

    Collective over: none.
    """
    found = dict.fromkeys(others, 0.0)
    for size in sizes:
        part = rows[np.arange(size) % len(rows)]
        wanted = ours(part)
        for name, other in others.items():
            found[name] = max(found[name], largest_difference(wanted, other(part)))
    return found
