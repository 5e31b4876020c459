"""Hashes of the values of records: equal values have equal hashes, whatever type a file keeps them in."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from app.data import keys
from app.data.preparing.records import is_text

WHOLE = 2.0**63
SIZE = 16  # bytes of a hash: two of 10^9 different records are the same with a probability of 10^-21
FEW = 16  # numbers of a record up to which mixing them is quicker than BLAKE2b
BEGINNINGS = (0x243F6A8885A308D3, 0x13198A2E03707344)  # of pi


def hashes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """(n, 2) uint64 of columns (n, ...): 128 bits over the values of a record."""
    count = len(columns[0])
    rows: list[memoryview] | list[bytes]
    numbers = sum(math.prod(values.shape[1:]) for values in columns)
    if any(is_text(values) for values in columns):
        parts = [_texts(values) if is_text(values) else _slices(_words(values)) for values in columns]
        rows = [b"\0".join(cells) for cells in zip(*parts, strict=True)]
    elif numbers <= FEW:
        return _folded(np.concatenate([_words(values) for values in columns], axis=1).view(np.uint64))
    else:
        rows = _slices(np.concatenate([_words(values) for values in columns], axis=1))
    found = b"".join(hashlib.blake2b(row, digest_size=SIZE).digest() for row in rows)
    return np.frombuffer(found, np.uint64).reshape(count, 2)


def _folded(words: np.ndarray) -> np.ndarray:
    """Of few words (n, w) uint64, all records at once: each word is mixed into two numbers that began differently."""
    lanes = []
    for begin in BEGINNINGS:
        lane = np.full(len(words), begin, np.uint64)
        for column in words.T:
            lane = keys.mix(lane ^ column) * np.uint64(begin | 1)
        lanes.append(keys.mix(lane))
    return np.stack(lanes, axis=1)


def _words(values: np.ndarray) -> np.ndarray:
    """(n, w) int64: whole numbers as themselves, others by the bits of float64."""
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    if flat.dtype.kind in "bi":
        return flat.astype(np.int64)
    if flat.dtype.kind == "u":
        return flat.astype(np.uint64).view(np.int64)
    wide = flat.astype(np.float64)
    whole = (wide == np.rint(wide)) & (np.abs(wide) < WHOLE)
    return np.where(whole, np.where(whole, wide, 0).astype(np.int64), _apart(wide))


def _apart(wide: np.ndarray) -> np.ndarray:
    """Bits of floats, scrambled by a fixed odd factor, so that they are not those of small whole numbers."""
    return (wide.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def _slices(words: np.ndarray) -> list[memoryview]:
    """The bytes of each row."""
    size = words.shape[1] * 8
    view = np.ascontiguousarray(words).data.cast("B") if words.size else memoryview(b"")
    return [view[start : start + size] for start in range(0, len(words) * size, size)]


def _texts(values: np.ndarray) -> list[bytes]:
    """Each record's texts with their lengths before them, so that no two different ones look the same."""
    rows = values.reshape(len(values), math.prod(values.shape[1:])).tolist()
    cells = ([str(text).encode("utf-8", "replace") for text in row] for row in rows)
    return [b"".join(len(text).to_bytes(4, "little") + text for text in row) for row in cells]
