"""What a predict phase is applied to: new files, the set of a preprocess phase, or a part of [data]."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.data.source import Source, open_source
from app.data.split import AnySplit, Split, StoredSplit
from app.errors import DataError, InputError
from app.inputfile.files import data_files, new_files
from app.inputfile.phases import Predict
from app.phases.context import Context
from app.storage.datasets import read_set
from app.storage.header_walk import check_data
from app.storage.predictions import SAMPLE

# Datasets and groups of the predictions' file that are not copied from elsewhere.
OWN: tuple[str, ...] = (
    SAMPLE,
    "labels",
    "probabilities",
    "values",
    "logits",
    "targets",
    "network",
    "signature",
    "class_names",
)
OWN += ("part", "metrics", "monitor")
SLAB_BYTES = 8 << 20  # of a column, read at once


@dataclass(frozen=True)
class NewSamples:
    """Samples of a part of a source; beside them targets, and columns that are copied to the output, by name."""

    source: Source
    split: AnySplit
    part: str
    targets: Source | None
    columns: dict[str, Source]

    @property
    def count(self) -> int:
        """How many there are."""
        return self.split.count(self.part)

    @property
    def fingerprint(self) -> str:
        """A short text that changes when a file does, or what is read of it."""
        names = (self.source.inputs_name, self.targets and self.targets.inputs_name, *self.columns)
        return repr((self.source.fingerprint, names, self.part, self.split))

    def close(self) -> None:
        """Close all files. Collective over: none."""
        for source in (self.source, self.targets, *self.columns.values()):
            if source is not None:
                source.close()


def open_samples(context: Context, phase: Predict, inputs: str) -> NewSamples:
    """inputs: the dataset that the network was trained on, "" where it is not known.

    Collective over: world. Raises DataError, InputError, ArtifactError, the same on every rank.
    """
    given = context.plan.input.data
    own = phase.file is None and phase.data is None  # those of [data]
    name = phase.inputs or inputs or given.inputs
    targets = phase.targets or (given.targets if own else "")
    if not name:
        raise InputError(
            f'[[phase]] "{phase.name}": which dataset holds the samples is not known; say it by inputs = "...".'
        ).on_every_rank()
    _refuse_names(phase)
    files = context.together(lambda: _files(context, phase))
    wanted = tuple(dict.fromkeys((name, *((targets,) if targets else ()), *phase.copy_along)))
    looked = {given.inputs, given.targets} if own else set()  # at the start of the run
    if phase.data is None and not looked.issuperset(wanted):  # what a preprocess phase has written is ours
        context.alone(lambda: check_data(files, wanted))
    return context.together(lambda: _opened(context, phase, files, name, targets))


def _opened(context: Context, phase: Predict, files: Sequence[Path], name: str, targets: str) -> NewSamples:
    source = open_source(files, name, None)
    split = _split(context, phase, files, source)
    part = phase.part or ("test" if phase.file is None and phase.data is None else "all")
    if not split.count(part):
        raise InputError(
            f'[[phase]] "{phase.name}": part = "{part}": of the {source.length:,} samples none is in that part.'
        )
    columns = {one: _column(source, one) for one in phase.copy_along}
    return NewSamples(source, split, part, _column(source, targets) if targets else None, columns)


def _column(source: Source, name: str) -> Source:
    """A dataset beside that of the samples. Raises DataError where it has another length."""
    found = open_source(source.files, name, None)
    if found.length != source.length:
        raise DataError(
            f"{source.files[0]}: '{source.inputs_name}' has {source.length} samples but '{name}' has {found.length};"
            " axis 0 must be the sample in both and they must have the same length."
        )
    return found


def _files(context: Context, phase: Predict) -> tuple[Path, ...]:
    if phase.file is not None:
        return new_files(phase, context.input_folder)
    made = phase.data or context.plan.input.data.phase
    return (context.folder.data(made),) if made else data_files(context.plan.input, context.input_folder)


def _split(context: Context, phase: Predict, files: Sequence[Path], source: Source) -> AnySplit:
    if phase.file is not None:
        if phase.part not in (None, "all"):
            raise InputError(
                f'[[phase]] "{phase.name}": part = "{phase.part}", but new files are not divided into parts; leave it'
                " out."
            )
        return Split(source.length, 0.0, 0.0, 0)
    if phase.data is None:
        return context.data.split
    parts = read_set(files[0]).parts
    if parts is None and phase.part not in (None, "all"):
        raise InputError(
            f'[[phase]] "{phase.name}": part = "{phase.part}", but the set of "{phase.data}" is not divided into parts;'
            " leave it out, or give that phase validation and test."
        )
    return Split(source.length, 0.0, 0.0, 0) if parts is None else StoredSplit(parts)


def _refuse_names(phase: Predict) -> None:
    """Two things of one name in the predictions' file."""
    problems = [
        f'[[phase]] "{phase.name}": copy_along = "{name}": the predictions have "{name.strip("/").split("/")[0]}" of'
        f" their own{advice}; rename it in a preprocess phase, or leave it out."
        for name in phase.copy_along
        for advice in ([', and take what the samples are by targets = "..."'] if "label" in name else [""])
        if name.strip("/").split("/")[0] in OWN
    ]
    if problems:
        raise InputError(*problems).on_every_rank()


def rows_of(source: Source, samples: np.ndarray) -> np.ndarray:
    """The rows (n, ...) of samples (n,), ascending. Collective over: none. Raises DataError."""
    found = np.empty((len(samples), *source.sample_shape), source.dtype)
    rows = max(1, SLAB_BYTES // max(1, source.input_bytes))
    done = 0
    while done < len(samples):
        first = int(samples[done])
        stop = int(np.searchsorted(samples, first + rows))
        slab = np.empty((int(samples[stop - 1]) + 1 - first, *source.sample_shape), source.dtype)
        source.read(first, slab)
        found[done:stop] = slab if len(slab) == stop - done else slab[samples[done:stop] - first]
        done = stop
    return found
