"""The set that a preprocess phase makes, data/NAME.h5: one dataset a column, whose axis 0 is the sample.

Attributes of the root: `parts` (3,) int64, the samples for training, validation and test, which lie one after the other
(missing: not divided); `digest`, a text that is the same for the same samples, however many ranks wrote them. Attribute
of a column: `class_names`, a JSON list, where its numbers are labels of classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.errors import ArtifactError, DataError
from app.storage.opening import find_dataset, open_file

LONGEST_NAMES = 1 << 22  # characters of the names of all classes


class StoredSet(NamedTuple):
    """What a set says about itself; parts: samples for training, validation and test, None: not divided."""

    parts: tuple[int, int, int] | None
    digest: str


def read_set(path: Path) -> StoredSet:
    """Collective over: none. Raises ArtifactError: missing, damaged, not a set of a preprocess phase."""
    try:
        with open_file(path) as file:
            digest, parts = file.attrs.get("digest"), file.attrs.get("parts")
    except DataError as error:
        raise ArtifactError(*error.problems) from error
    found = None if parts is None else np.asarray(parts)
    if not isinstance(digest, str) or (found is not None and (found.shape != (3,) or found.dtype.kind not in "iu")):
        raise ArtifactError(f"{path}: is no set of a preprocess phase. What to try: --fresh makes it again.")
    return StoredSet(None if found is None else (int(found[0]), int(found[1]), int(found[2])), digest)


def class_names(path: Path, dataset: str) -> tuple[str, ...]:
    """The names of the classes that a dataset of labels carries, () for none. Collective over: none.

    Raises DataError as `open_rows`.
    """
    with open_file(path) as file:
        text = find_dataset(path, file, dataset, 0).attrs.get("class_names")
    return _names(text)


def _names(text: Any) -> tuple[str, ...]:
    """Of a stranger's attribute too: what is no list of texts is none of ours."""
    if not isinstance(text, str) or len(text) > LONGEST_NAMES:
        return ()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else ()


__all__ = ["StoredSet", "class_names", "read_set"]
