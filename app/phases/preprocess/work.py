"""What a preprocess phase works on, and how ranks work apart and come together again."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import app
from app.errors import DataError
from app.inputfile.preparing import SCALING, Preprocess, Step
from app.phases.context import Context
from app.report.progress import Progress
from app.storage import raw
from app.storage.set_pieces import Pieces

T = TypeVar("T")
TOGETHER_S = 2.0  # about that long ranks work on before they ask one another whether to stop


@dataclass(frozen=True)
class Work:
    """Of one phase, the same on every rank but for the open files.

    titles      of each piece's file, as messages name it
    stamps      of each piece's file its size and date, as a text
    mark        tells this input and these files from all others
    """

    context: Context
    phase: Preprocess
    pieces: tuple[raw.Piece, ...]
    titles: tuple[str, ...]
    stamps: tuple[str, ...]
    mark: str
    store: Pieces

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that are done to records as they come."""
        return tuple(step for step in self.phase.steps if not isinstance(step, SCALING))

    @property
    def seed(self) -> int:
        return self.context.plan.input.run.seed

    @property
    def mine(self) -> range:
        """This rank's pieces."""
        return range(self.context.world.rank, len(self.pieces), self.context.world.size)

    @property
    def target(self) -> Path:
        """The finished file."""
        return self.context.folder.data(self.phase.name)


def work_of(context: Context, phase: Preprocess, pieces: Sequence[raw.Piece]) -> Work:
    """Collective over: none. Raises DataError: a file that went away."""
    stamps = {piece.file: "" for piece in pieces}
    for file in stamps:
        try:
            found = os.stat(file)
        except OSError as error:
            raise DataError(f"{file}: cannot be looked at ({error.strerror}).") from error
        stamps[file] = f"{found.st_size} {found.st_mtime_ns}"
    titles = tuple(_title(piece.file, context.input_folder) for piece in pieces)
    described = [(title, *one[1:], stamps[one.file]) for title, one in zip(titles, pieces, strict=True)]
    mark = fingerprint(described, phase.model_dump(), context.plan.input.run.seed)
    store = Pieces(context.folder.work(phase.name))
    return Work(context, phase, tuple(pieces), titles, tuple(stamps[one.file] for one in pieces), mark, store)


def fingerprint(*parts: Any) -> str:
    """A text that is another one when any part is, or the program."""
    return hashlib.sha256(json.dumps([app.__version__, *parts], default=str).encode()).hexdigest()


def in_turn(work: Work, title: str, total: int, act: Callable[[int], int], saved: str) -> None:
    """Numbers 0 to total - 1, each on one rank, `act` says of how many records it was. Ranks look together from time
    to time whether the run is to stop.

    saved: in words what is kept then. Collective over: world. Raises Stopped, and what `act` raises on any rank.
    """
    context = work.context
    own = deque(range(context.world.rank, total, context.world.size))
    rounds, every_s = len(own), context.plan.input.run.log_seconds
    with Progress(context.log, title, steps=rounds, every_s=every_s) as progress:

        def act_for_a_while() -> None:
            begun = time.monotonic()
            while own and time.monotonic() - begun < TOGETHER_S and not context.stopping.asked():
                turn = rounds - len(own)
                context.watchdog.place(work.phase.name, 0, turn)
                progress.update(0, turn, act(own.popleft()) * context.world.size)

        while True:
            context.apart(act_for_a_while)
            if not any(context.world.allgather(bool(own))):
                return
            if context.stopping.agreed(context.everyone):
                raise context.stopping.stopped(saved)


def _title(file: Path, folder: Path) -> str:
    """As a user of the input file knows it."""
    try:
        return str(file.relative_to(folder))
    except ValueError:
        return str(file)
