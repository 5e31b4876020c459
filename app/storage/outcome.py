"""outcome.json: the last word of a run. It is there only after the application itself has come to an end.

Launchers are not to be believed: Open MPI's mpirun returns 0 after it lost a node.
"""

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from app.storage import atomic_write

LIFE = "PHALANX_LIFE"  # in the environment: a word for this launch, so that an older last word is not taken for its own


class Outcome(NamedTuple):
    """state: done, stopped (with work left), held (stopped by the user's file) or failed. life: which launch it was.

    until: the phase that it was to end after, "" for all. text: what the user was told. when: UTC, ISO 8601.
    """

    state: str
    code: int
    life: str
    until: str
    text: str
    when: str


class LastWord:
    """Writes outcome.json at the end of a run, once it is known where."""

    def __init__(self, life: str, until: str) -> None:
        """life: a word for this launch, from whoever launched; until: the phase after which the run is to end."""
        self._life, self._until = life, until
        self._path: Path | None = None

    def begin(self, path: Path) -> None:
        """A run begins: what an earlier one said holds no longer. Collective over: none (rank 0)."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

    def known(self, path: Path) -> None:
        """Where it will be written. Collective over: none (every rank)."""
        self._path = path

    def say(self, state: str, code: int, text: str) -> None:
        """Collective over: none (one rank; any rank that fails). Raises MachineError."""
        if self._path is not None:
            found = Outcome(state, code, self._life, self._until, text, datetime.now(UTC).isoformat(timespec="seconds"))
            atomic_write.replace(self._path, [json.dumps(found._asdict(), indent=1).encode()])

    def failed(self, code: int, text: str) -> None:
        """As `say`, where something else has gone wrong already: nothing is raised."""
        with contextlib.suppress(Exception):
            self.say("failed", code, text)


def read_outcome(path: Path) -> Outcome | None:
    """None where no run came to an end, or the file is not one of ours."""
    try:
        return Outcome(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
