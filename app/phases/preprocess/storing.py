"""The samples in their final order, in part files: each made by one rank from the slices of all pieces."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.data.preparing.columns import Column
from app.data.preparing.order import BITS, Range, ranges
from app.data.preparing.scaling import scaled, scaled_type
from app.phases.preprocess.dividing import Division, members
from app.phases.preprocess.measuring import Scaling
from app.phases.preprocess.pieces import OWN
from app.phases.preprocess.work import Work, fingerprint, in_turn
from app.storage.set_files import Layout, layout, part_attribute, write_part


class Stored(NamedTuple):
    """The part files in order, and a text that is the same for the same samples."""

    layout: Layout
    files: tuple[Path, ...]
    digest: str


class Slice(NamedTuple):
    """Samples of a piece. at: their numbers there. to: their numbers among those wanted."""

    piece: int
    at: np.ndarray
    to: np.ndarray


def store_parts(work: Work, columns: Sequence[Column], division: Division, scaling: Mapping[str, Scaling]) -> Stored:
    """Those that are not there yet. Collective over: world. Raises MachineError, Stopped."""
    types = {one.name: scaled_type(one.dtype) if one.name in scaling else one.dtype for one in columns}
    described = [(one.name, types[one.name], one.shape) for one in columns]
    found = layout(described, division.samples, work.phase.chunk, work.phase.compression)
    folder, mark = work.target.with_suffix(""), fingerprint(work.mark)
    files = tuple(folder / f"part-{number:05}.h5" for number in range(found.parts))

    def make(number: int) -> int:
        start, stop = number * found.rows, min((number + 1) * found.rows, found.samples)
        if part_attribute(files[number], "made_of") != mark:
            values = _part(work, columns, division, scaling, (start, stop))
            write_part(files[number], found, number, values, {"made_of": mark, "digest": _digest(values)})
        return stop - start

    in_turn(work, f"{work.phase.name}: samples", found.parts, make, "the parts of the set that are done are kept")
    digests = work.context.together(lambda: _digests(work, files))
    return Stored(found, files, fingerprint_of_content(found, division, digests))


def fingerprint_of_content(found: Layout, division: Division, digests: Sequence[str]) -> str:
    """Of columns, parts and values; neither of chunks and compression nor of when it was made."""
    whole = hashlib.sha256(repr([[one[:3] for one in found.columns], division.parts]).encode())
    for digest in digests:
        whole.update(digest.encode())
    return whole.hexdigest()


def _digests(work: Work, files: Sequence[Path]) -> list[str]:
    """Of all part files, in order; each rank looks at its own."""
    return [part_attribute(file, "digest") or "" for file in files]


def _digest(columns: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name, values in columns.items():
        found.update(f"{name}\n{values.dtype.str}\n{values.shape}\n".encode())
        found.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.nbytes else b"")
    return found.hexdigest()


def _part(
    work: Work, columns: Sequence[Column], division: Division, scaling: Mapping[str, Scaling], span: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The columns (n, ...) of the samples in a span of the whole set."""
    slices: list[Slice] = []
    begin = 0
    for one in ranges(division.counts, *span):
        slices += [part._replace(to=part.to + begin) for part in _slices(work, division, one)]
        begin += one.wanted
    found = {}
    for column in columns:
        values = np.empty((span[1] - span[0], *column.shape), column.dtype)
        for part in slices:
            values[part.to] = work.store[part.piece].take(f"{OWN}{column.name}", part.at)
        by = scaling.get(column.name)
        found[column.name] = values if by is None else scaled(values, by.by)
    return found


def _slices(work: Work, division: Division, wanted: Range) -> list[Slice]:
    """Where the samples of a range are. Bins are of keys where samples are shuffled, else pieces."""
    pieces, numbers, keys = [], [], []
    shuffled = work.phase.shuffle
    for number in range(len(work.pieces)) if shuffled else range(wanted.first, wanted.last + 1):
        piece = work.store[number]
        start, stop = 0, len(piece)
        if shuffled:
            start = piece.search("key", wanted.first << (64 - BITS))
            stop = piece.search("key", (wanted.last + 1) << (64 - BITS))
        here = members(work, number, division.cut, start, stop)
        mine = here.part == wanted.part
        pieces.append(np.full(int(mine.sum()), number))
        numbers.append(here.at[mine])
        keys.append(here.key[mine])
    order = np.argsort(np.concatenate(keys), kind="stable")[wanted.skip : wanted.skip + wanted.wanted]
    piece_of, at_of = np.concatenate(pieces)[order], np.concatenate(numbers)[order]
    by_piece = np.lexsort((at_of, piece_of))  # so that each piece is read from its beginning to its end
    edges = np.searchsorted(piece_of[by_piece], np.arange(len(work.pieces) + 1))
    return [
        Slice(number, at_of[by_piece[low:high]], by_piece[low:high])
        for number, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
        if low < high
    ]
