"""Arrays that begin at a line of the cache."""

import math
from collections.abc import Sequence

import numpy as np

ALIGNMENT = 64  # bytes: a line of the cache, and the width of the widest vector instructions


def aligned(shape: int | Sequence[int], dtype: np.dtype | type, *, zeros: bool = False) -> np.ndarray:
    """An array of any content, or of zeros, which cost nothing before they are touched. Collective over: none."""
    count = math.prod((shape,) if isinstance(shape, int) else shape)
    size = count * np.dtype(dtype).itemsize
    memory = (np.zeros if zeros else np.empty)(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
