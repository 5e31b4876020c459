"""Which phases of a run have begun and which are done, as plain JSON: readable on a login node without HDF5."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import ArtifactError
from app.storage import atomic_write


@dataclass(frozen=True)
class RunProgress:
    """`input` is the resolved input the phases ran with; `done` maps a finished phase to the numbers it ended with.

    `code`: versions of the programs, and by their names checksums of the user's own files. `ran_on`: ranks, stages and
    threads of the last start.
    """

    run_id: str
    input: dict[str, Any]
    begun: tuple[str, ...] = ()
    done: dict[str, dict[str, float]] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    ran_on: dict[str, int] = field(default_factory=dict)


def read_progress(path: Path) -> RunProgress | None:
    """None where nothing has run yet. Raises ArtifactError when the file is damaged."""
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with the folder is told when it is made
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ArtifactError(f"{path}: cannot be read: {why}. What to try: --fresh starts the run over.") from None
    try:
        found = json.loads(text)
        known = (found["run_id"], found["input"], tuple(found["begun"]), dict(found["done"]))
        return RunProgress(*known, dict(found.get("code", {})), dict(found.get("ran_on", {})))
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"{path}: is damaged: expected the JSON that Phalanx writes. What to try: --fresh starts the run over."
        ) from None


def write_progress(path: Path, progress: RunProgress) -> None:
    """Replace the file as a whole. Collective over: none (rank 0). Raises MachineError."""
    tree = {
        "run_id": progress.run_id,
        "begun": list(progress.begun),
        "done": progress.done,
        "code": progress.code,
        "ran_on": progress.ran_on,
        "input": progress.input,
    }
    atomic_write.replace(path, [json.dumps(tree, indent=1).encode()])
