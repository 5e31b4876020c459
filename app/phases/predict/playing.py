"""The pieces of a predict phase, played by all ranks; what is there of an earlier start is not played again."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.data.batches import Reading
from app.errors import PhalanxError
from app.phases.context import Context
from app.phases.context.teachers import constants_of
from app.phases.predict.collecting import Asked, Collector
from app.phases.predict.forward import Forward
from app.phases.predict.pieces import Pieces
from app.phases.predict.reading import Microbatches, reading_ahead
from app.report.progress import Progress
from app.storage import predictions
from app.storage.background import Background
from app.storage.tree import Tree

FORMAT = 2  # of what pieces hold; with another one they are made anew
AGREE_S = 2.0  # between two agreements of all ranks, about


class Played(NamedTuple):
    """Samples that this start has played, and how long it took."""

    samples: int
    seconds: float


@dataclass(frozen=True)
class Work:
    """What there is to do: where pieces are kept, by which key, how they are read and what is made of them."""

    folder: Path
    key: str
    pieces: Pieces
    plan: Reading
    asked: Asked


def key_of(context: Context, asked: Asked, identity: str, pieces: Pieces) -> str:
    """A text that differs when what pieces hold does."""
    given, phase = context.plan.input, asked.phase
    words = (
        FORMAT, context.provenance.run_id, identity, asked.samples.fingerprint, phase.inputs, asked.wanted,
        pieces.rows, pieces.microbatch, given.run.precision, phase.provider, repr(phase.monitor),
    )  # fmt: skip
    return hashlib.sha256(repr(words).encode() + constants_of(asked.signature.transform)).hexdigest()


def missing_pieces(context: Context, work: Work) -> list[int]:
    """The pieces that are still to be played, the same on every rank; stale ones are deleted.

    Each rank looks at a share. Collective over: world. Raises MachineError.
    """
    world, folder = context.world, work.folder
    context.alone(lambda: predictions.begin(folder))
    there = world.bcast(predictions.piece_numbers(folder) if context.speaks else None)
    mine = there[world.rank :: world.size]
    own = [n for n in mine if n < work.pieces.number and _is_whole(work, n)]
    with context.watchdog.operation("checking of earlier predictions"):
        whole = {number for found in world.allgather(own) for number in found}
    if context.speaks:
        for number in set(there) - whole:
            predictions.piece_path(folder, number).unlink(missing_ok=True)
    return [number for number in range(work.pieces.number) if number not in whole]


def _is_whole(work: Work, number: int) -> bool:
    path = predictions.piece_path(work.folder, number)
    return predictions.is_whole(path, work.key, work.pieces.samples(number))


def play(context: Context, work: Work, forward: Forward, missing: Sequence[int]) -> Played:
    """Play the missing pieces, shared out to the replicas in turn, and write each.

    Collective over: world. Raises Stopped between pieces, DataError, NumbersError, MachineError on all ranks.
    """
    share, pieces = forward.share, work.pieces
    own = list(missing[share.replica :: share.replicas])
    rounds = -(-len(missing) // share.replicas)
    begun = time.monotonic()
    with (
        ExitStack() as opened,
        Progress(context.log, work.asked.phase.name, steps=rounds, every_s=context.plan.input.run.log_seconds) as said,
        reading_ahead(work.asked.samples.source, pieces, work.plan, own, share.reads, context.timers) as microbatches,
    ):
        player = opened.enter_context(closing(_Player(context, work, forward, microbatches)))
        done = 0
        together = 1  # rounds until the ranks agree next
        while done < rounds:
            stop = min(rounds, done + together)
            for turn in range(done, stop):
                if turn < len(own):
                    player.play(own[turn])
                here = missing[turn * share.replicas : (turn + 1) * share.replicas]
                said.update(0, turn, sum(len(pieces.positions(number)) for number in here))
            if stop < rounds:
                player.check()
            else:
                player.finish()
            together = _agreed(context, player, stop - done)
            done = stop
            if together == 0 and done < rounds:
                player.finish()
                context.together(player.raise_problem)
                raise context.stopping.stopped(f"{done} of {rounds} rounds of pieces are predicted and kept")
            together = max(1, together)
    return Played(sum(len(pieces.positions(number)) for number in missing), time.monotonic() - begun)


def _agreed(context: Context, player: "_Player", rounds: int) -> int:
    """Rounds until the next agreement, by the slowest rank; 0: all are to stop. Raises what any rank has met."""
    context.together(player.raise_problem)
    with context.watchdog.operation("agreement between pieces"):
        answers = context.world.allgather((context.stopping.asked(), player.seconds))
    player.seconds = 0.0
    if any(asked for asked, _ in answers):
        return 0
    slowest = max(seconds for _, seconds in answers) / rounds
    return max(1, int(AGREE_S / max(slowest, 1e-3)))


class _Player:
    """Plays pieces on one rank. What is found wrong is kept until all ranks agree, as other stages go on meanwhile."""

    def __init__(self, context: Context, work: Work, forward: Forward, microbatches: Microbatches) -> None:
        self._context, self._work, self._forward, self._microbatches = context, work, forward, microbatches
        self._writer = Background()
        self._alone = forward.share.replicas == context.world.size  # no stage waits for another
        self._problem: PhalanxError | None = None
        self.seconds = 0.0

    def play(self, number: int) -> None:
        """One piece, which is written while the next is played."""
        if self._problem is not None and self._alone:
            return
        begun = time.monotonic()
        try:
            self._play(number)
        except PhalanxError as error:
            if not self._alone:
                raise  # the other stages wait for this one: all end at once
            self._problem = error
        self.seconds += time.monotonic() - begun
        self._context.stopping.took("step", time.monotonic() - begun)

    def _play(self, number: int) -> None:
        work = self._work
        collector = Collector(work.asked, work.pieces.samples(number)) if self._forward.share.gives else None
        for group in self._microbatches.groups(number, self._forward.share.group):
            with self._context.timers("compute"):
                for outputs, rows, seconds in self._forward(group):
                    self._problem = self._problem or self._forward.problem
                    if collector is not None and self._problem is None:
                        collector.add(outputs, rows, seconds)
        if collector is not None and self._problem is None:
            self._kept(lambda: self._store(number, *collector.finished()))

    def _store(self, number: int, rows: Mapping[str, np.ndarray], sums: Tree) -> None:
        self._writer.wait()
        path = predictions.piece_path(self._work.folder, number)
        self._writer.start(partial(predictions.write_piece, path, self._work.key, rows, sums))

    def check(self) -> None:
        """Learn whether what was written last has failed already; no wait."""
        self._kept(self._writer.check)

    def finish(self) -> None:
        """All pieces played are on the disk."""
        self._kept(self._writer.wait)

    def close(self) -> None:
        """Wait for what is being written, and end the thread that does it."""
        self._writer.close()

    def _kept(self, action: Callable[[], object]) -> None:
        try:
            action()
        except PhalanxError as error:
            self._problem = self._problem or error

    def raise_problem(self) -> None:
        """What was found wrong since the last agreement."""
        problem = self._problem or self._forward.problem
        if problem is not None:
            raise problem
