"""Each piece of the raw files as a scratch file of samples, in the order of their keys."""

from typing import Any, NamedTuple

import numpy as np

from app.data.preparing.columns import Seen
from app.data.preparing.hashes import hashes
from app.data.preparing.order import lots_of, places, shuffled
from app.data.preparing.records import Block, column
from app.phases.preprocess.reading import Known, described, made
from app.phases.preprocess.work import Work, fingerprint, in_turn
from app.storage.set_pieces import piece_is_good, write_piece

LISTED_BAD = 10_000  # of one piece
OWN = "="  # before the names of a set's columns in a piece; the others are ours


class Facts(NamedTuple):
    """What all ranks know of the pieces. Each (pieces,) int64."""

    records: np.ndarray
    bad: np.ndarray
    dropped: np.ndarray
    samples: np.ndarray


def make_pieces(work: Work, known: Known) -> None:
    """Those that are not there yet. Collective over: world. Raises DataError, MachineError, Stopped."""
    common = _common(work, known)

    def make(number: int) -> int:
        path, mark = work.store.path(number), mark_of(work, number, common)
        if piece_is_good(path, mark):
            return 0
        block, count = made(work, number, known)
        columns, facts = _sorted_columns(work, number, block)
        write_piece(path, mark, columns, {**facts, "records": count})
        return count

    in_turn(work, f"{work.phase.name}: pieces", len(work.pieces), make, "the pieces that are done are kept")


def mark_of(work: Work, number: int, common: list[Any]) -> str:
    """Of what a piece is made."""
    piece = work.pieces[number]
    return fingerprint(work.titles[number], *piece[1:], work.stamps[number], number, common)


def _common(work: Work, known: Known) -> list[Any]:
    phase = work.phase
    seed = work.seed if phase.shuffle or phase.splits else None
    return [
        *described(known, work.steps),
        phase.shuffle,
        seed,
        phase.deduplicate,
        phase.split_by if phase.splits else None,
    ]


def _sorted_columns(work: Work, number: int, block: Block) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What is stored of a piece's samples, and what is noted about them."""
    phase, place = work.phase, places(number, block.rows)
    key = shuffled(place, work.seed) if phase.shuffle else place
    order = np.argsort(key)
    columns = {"key": key[order], "row": block.rows[order]}
    if phase.splits and phase.split_by is not None:
        columns["lot"] = lots_of(hashes([column(block, phase.split_by, "split_by")])[:, 0], work.seed)[order]
    elif phase.splits and not phase.shuffle:
        columns["lot"] = lots_of(place, work.seed)[order]
    if phase.deduplicate and len(block):
        found = hashes([column(block, name, "deduplicate") for name in phase.deduplicate])[order]
        by_hash = np.lexsort((found[:, 1], found[:, 0]))
        columns |= {"hash": found[by_hash, 0], "hash2": found[by_hash, 1], "at": by_hash}
    columns |= {f"{OWN}{name}": _stored(values)[order] for name, values in block.columns.items()}
    return columns, {
        "bad": [[one.row, one.why] for one in block.bad[:LISTED_BAD]],
        "bad_count": len(block.bad),
        "dropped": block.dropped,
        "columns": [[name, list(block.history[name]), block.names.get(name)] for name in block.columns],
    }


def _stored(values: np.ndarray) -> np.ndarray:
    """Texts as UTF-8 of fixed length."""
    if values.dtype.kind != "U":
        return values
    return np.char.encode(values, "utf-8", "replace") if values.size else values.astype("S1")


def facts_of(work: Work) -> Facts:
    """Collective over: world."""
    found = np.zeros((4, len(work.pieces)), np.int64)
    for number in work.mine:
        piece = work.store[number]
        facts = piece.facts
        found[:, number] = facts["records"], facts["bad_count"], facts["dropped"], len(piece)
    work.context.everyone.sum_(found)
    return Facts(*found)


def columns_seen(work: Work) -> list[list[Seen]]:
    """The columns of pieces that have samples, each kind once, in the order of the pieces. Collective over: world."""
    own: dict[str, tuple[int, list[Seen]]] = {}
    for number in work.mine:
        piece = work.store[number]
        if len(piece):
            seen = [_seen(work, number, *one) for one in piece.facts["columns"]]
            own.setdefault(repr([one[1:] for one in seen]), (number, seen))
    found: dict[str, tuple[int, list[Seen]]] = {}
    for share in work.context.world.allgather(own):
        for kind, one in share.items():
            if kind not in found or one[0] < found[kind][0]:
                found[kind] = one
    return [seen for _, seen in sorted(found.values(), key=lambda one: one[0])]


def _seen(work: Work, number: int, name: str, history: list[dict[str, Any]], names: list[str] | None) -> Seen:
    empty = work.store[number].read(f"{OWN}{name}", 0, 0)
    return Seen(work.titles[number], name, empty.dtype.str, empty.shape[1:], history, names)
