"""Which samples stay, which part each belongs to, and where each will lie."""

from typing import NamedTuple

import numpy as np

from app.data.preparing.order import (
    BINS,
    TOP,
    Cut,
    bins_of,
    buckets,
    counted,
    last_of,
    part_of,
    repeated,
)
from app.data.split import Split
from app.phases.preprocess.work import Work
from app.storage.set_pieces import Piece, write_piece

COMPARED = 1 << 21  # hashes that a rank compares at once, about 100 MB


class Members(NamedTuple):
    """Samples of a piece. at: their numbers in it (m,) ascending; part, key: (m,) of each."""

    at: np.ndarray
    part: np.ndarray
    key: np.ndarray


class Division(NamedTuple):
    """Of all samples. counts: (3, bins) int64 of each part in each bin: of keys, or pieces where nothing is shuffled.

    repeated: (pieces,) int64, samples that are left out since they are there a second time.
    """

    cut: Cut
    counts: np.ndarray
    repeated: np.ndarray

    @property
    def parts(self) -> tuple[int, int, int]:
        """Samples for training, validation and test."""
        train, validation, test = map(int, self.counts.sum(axis=1))
        return train, validation, test

    @property
    def samples(self) -> int:
        """All of them."""
        return sum(self.parts)


def divide(work: Work, samples: int) -> Division:
    """Collective over: world. samples: of all pieces."""
    left_out = _repeated(work, samples)
    total = samples - int(left_out.sum())
    cut = _cut(work, total) if work.phase.splits else Cut(TOP, TOP)
    counts = np.zeros((3, BINS if work.phase.shuffle else len(work.pieces)), np.int64)

    def count() -> None:
        for number in work.mine:
            found = members(work, number, cut)
            bins = bins_of(found.key) if work.phase.shuffle else np.full(len(found.at), number)
            np.add.at(counts, (found.part, bins), 1)

    work.context.apart(count)
    work.context.everyone.sum_(counts)
    return Division(cut, counts, left_out)


def members(work: Work, number: int, cut: Cut, start: int = 0, stop: int | None = None) -> Members:
    """The samples of a piece, or of [start, stop) of them, without the repeated ones."""
    piece = work.store[number]
    stop = len(piece) if stop is None else stop
    at = np.arange(start, stop)
    key = piece.read("key", start, stop)
    lots = piece.read("lot", start, stop) if "lot" in piece else key
    part = part_of(lots, cut) if work.phase.splits else np.zeros(len(at), np.int64)
    if work.phase.deduplicate and work.store.dropped(number).exists():
        with Piece(work.store.dropped(number)) as found:
            stays = ~np.isin(at, found.read("at"), assume_unique=True)
        return Members(at[stays], part[stays], key[stays])
    return Members(at, part, key)


def _cut(work: Work, total: int) -> Cut:
    """Numbers of samples as app.data.split counts them."""
    phase = work.phase
    wanted = Split(total, phase.validation, phase.test, 0)
    anything = Cut(TOP, TOP)

    def count(prefix: int, bits: int) -> np.ndarray:
        found = np.zeros(BINS, np.int64)

        def add() -> None:
            for number in work.mine:
                at = members(work, number, anything).at
                piece = work.store[number]
                found[:] += counted(piece.take("lot" if "lot" in piece else "key", at), prefix, bits)

        work.context.apart(add)
        work.context.everyone.sum_(found)
        return found

    train = last_of(wanted.count("train"), count)
    return Cut(train, max(train, last_of(total - wanted.count("test"), count)))


def _repeated(work: Work, samples: int) -> np.ndarray:
    """Notes of each piece the samples that another one equals which comes before; how many. Collective over: world."""
    found = np.zeros(len(work.pieces), np.int64)
    if not work.phase.deduplicate:
        return found
    ranks, rank = work.context.world.size, work.context.world.rank
    own: dict[int, list[np.ndarray]] = {number: [] for number in work.mine}
    all_buckets = buckets(samples, COMPARED, ranks)
    for turn in range(0, len(all_buckets), ranks):
        bucket = all_buckets[turn + rank] if turn + rank < len(all_buckets) else None
        later = work.context.apart(lambda one=bucket: _later(work, one))  # type: ignore[misc]
        for share in work.context.world.allgather(later):
            for number, at in share.items():
                if number in own:
                    own[number].append(at)

    def note() -> None:
        for number, parts in own.items():
            path, at = work.store.dropped(number), np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))
            found[number] = len(at)
            mark = work.store[number].fingerprint
            if len(at):
                write_piece(path, mark, {"at": at}, {})
            else:
                path.unlink(missing_ok=True)

    work.context.apart(note)
    work.context.everyone.sum_(found)
    return found


def _later(work: Work, bucket: tuple[int, int] | None) -> dict[int, np.ndarray]:
    """Of the samples with hashes in a bucket the repeated ones: by piece, their numbers in it."""
    if bucket is None:
        return {}
    low, high = bucket
    parts = []
    for number in range(len(work.pieces)):
        piece = work.store[number]
        if len(piece):
            start, stop = piece.search("hash", low), piece.search("hash", high + 1)
            at = piece.read("at", start, stop)
            both = np.stack([piece.read("hash", start, stop), piece.read("hash2", start, stop)], axis=1)
            parts.append((both, np.full(len(at), number), piece.take("row", at), at))
    if not parts:
        return {}
    hashes, pieces, rows, at = (np.concatenate(one) for one in zip(*parts, strict=True))
    later = repeated(hashes, (pieces, rows))
    return {int(number): at[later[pieces[later] == number]] for number in np.unique(pieces[later])}
