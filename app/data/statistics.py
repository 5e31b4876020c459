"""Constants of a data set: means and standard deviations, class counts; every value is looked at once.

The samples are cut into a fixed number of segments, whose float64 moments are merged in a fixed order (Chan, Golub,
LeVeque 1983), so the result has the same bits however many members share the work.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from app.data.blocks import Blocks
from app.data.moments import Moments, merge, moments_of
from app.data.source import Source
from app.data.split import AnySplit
from app.errors import DataError

SEGMENTS = 64
MOST_CLASSES = 1_000_000
MOST_TARGETS = 4096  # numbers of a target that get constants of their own
SLICE_BYTES = 256 * 2**10  # taken into float64 at once: stays in the second-level cache
AXES = ("channel", "feature", "all", "none")


@dataclass(frozen=True)
class Statistics:
    """Constants over the training part (`samples` of them).

    mean, std              float32, broadcastable to a stored sample: one a channel, one a feature, or one for all
    classes, class_counts  largest label of any part + 1, and training labels of each (int64); None: regression
    target_mean, _std      float32, broadcastable to a target; None: classification or no targets
    """

    mean: np.ndarray
    std: np.ndarray
    samples: int
    classes: int | None = None
    class_counts: np.ndarray | None = None
    target_mean: np.ndarray | None = None
    target_std: np.ndarray | None = None

    def to_tree(self) -> dict[str, Any]:
        """A tree that storage can write."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Statistics":
        """The inverse of to_tree; arrays may come back as tensors."""
        arrays = ("mean", "std", "class_counts", "target_mean", "target_std")
        found = {name: None if tree[name] is None else np.asarray(tree[name]) for name in arrays}
        return cls(samples=tree["samples"], classes=tree["classes"], **found)  # type: ignore[arg-type]


class Job(NamedTuple):
    """What every segment needs to know."""

    source: Source
    split: AnySplit
    blocks: Blocks
    axis: str
    channel_axis: int | None
    classification: bool
    vocabulary: int
    per_position: bool


class Segment(NamedTuple):
    """What one segment contributes; `problem` is the sentence about its first bad sample."""

    inputs: Moments | None
    targets: Moments | None
    class_counts: np.ndarray | None
    largest: int
    samples: int
    problem: str | None


def scan(
    source: Source,
    split: AnySplit,
    *,
    axis: str,
    channel_axis: int | None,
    classification: bool,
    member: int,
    members: int,
    gather: Callable[[object], list[Any]],
    memory_bytes: int,
    vocabulary: int = 0,
    per_position: bool = False,
) -> Statistics:
    """Read every sample once, check it, and return the constants of the training part, the same bits on every member.

    `axis`: "channel" (constants per index of `channel_axis` of a stored sample), "feature", "all" or "none" (mean 0,
    std 1). `vocabulary`: number of different tokens, where inputs are tokens. `per_position`: a sample may have labels
    (T,), and values (T, ...) have constants common to all T. Collective over: whoever shares `gather`. Raises
    DataError, on every member, for values that are not finite (file, dataset, first such sample), labels that are not
    integers from 0, tokens outside the vocabulary, an empty training part.
    """
    if axis not in AXES:
        raise ValueError(f"axis is {axis!r}, expected one of {AXES}")
    if classification:
        check_labels(source, per_position)
    check_tokens(source, vocabulary)
    if split.count("train") == 0:
        raise DataError(
            f"The training part is empty: {source.length} samples, {split.count('validation')} of them for validation "
            f"and {split.count('test')} for test; lower [data] validation and test."
        )
    blocks = source.blocks(memory_bytes // 2)
    job = Job(source, split, blocks, axis, channel_axis, classification, vocabulary, per_position)
    wide = int(np.prod(source.sample_shape)) if axis == "feature" else 1
    segments = max(1, min(SEGMENTS, memory_bytes // (4 * 16 * wide)))  # what is gathered must fit the memory too
    mine = {number: segment_or_problem(job, number, segments) for number in range(member, segments, members)}
    found: dict[int, Segment] = {}
    for share in gather(mine):
        found.update(share)
    return combine(source, [found[number] for number in range(segments)], axis)


def check_labels(source: Source, per_position: bool) -> None:
    """Refuse targets whose type or shape cannot be class labels."""
    if source.target_dtype is None or source.target_shape is None:
        return
    where = f"{source.files[0]}: '{source.targets_name}'"
    if source.target_dtype.kind not in "biu":
        raise DataError(
            f"{where} has type {source.target_dtype}, expected integers 0, 1, 2, ... as class labels; "
            'convert it, or set [data] task = "regression".'
        )
    if source.target_shape not in ((), (1,)) and not (per_position and len(source.target_shape) == 1):
        expected = "one class label a sample" + (", or one a position in a row" if per_position else "")
        advice = "" if per_position else "; labels of positions want a network with an output for each"
        raise DataError(
            f"{where} has targets of shape {source.target_shape}, "
            f"expected {expected} (one-hot rows: store their argmax{advice})."
        )


def check_tokens(source: Source, vocabulary: int) -> None:
    """Refuse inputs whose type cannot be token numbers."""
    if vocabulary and source.dtype.kind not in "iu":
        raise DataError(
            f"{source.files[0]}: '{source.inputs_name}' has type {source.dtype}, expected integers as token numbers; "
            "convert it, or leave out [network] vocabulary where the inputs are features."
        )


def segment_or_problem(job: Job, number: int, segments: int) -> Segment:
    """A problem is carried to the gathering, where all raise it: raised here, others would wait for ever."""
    try:
        return scan_segment(job, number, segments)
    except DataError as error:
        return Segment(None, None, None, -1, 0, "\n".join(error.problems))


def scan_segment(job: Job, number: int, segments: int) -> Segment:
    """The contribution of the blocks of one segment."""
    inputs = targets = None
    counts, largest, samples = np.zeros(0, np.int64), -1, 0
    first, stop = (job.blocks.count * n // segments for n in (number, number + 1))
    for start, rows, wanted in read_slices(job, first, stop):
        check_finite(job.source, job.source.inputs_name, start, rows[0])
        if job.vocabulary:
            check_vocabulary(job.source, start, rows[0], job.vocabulary)
        train = job.split.mask("train", np.arange(start, start + len(rows[0])))
        samples += int(train.sum())
        if job.axis != "none":
            inputs = merge(inputs, moments_of(members(rows[0], train), kept_axes(job), inputs))
        if wanted is None:
            continue
        check_finite(job.source, str(job.source.targets_name), start, wanted)
        if job.classification:
            labels = checked_labels(job.source, start, wanted)
            largest = max(largest, int(labels.max()))
            counts = add_counts(counts, np.bincount(labels[train].reshape(-1)))
        else:
            targets = merge(targets, moments_of(members(wanted, train), target_axes(job), targets))
    return Segment(inputs, targets, counts, largest, samples, None)


def read_slices(job: Job, first: int, stop: int) -> Iterator[tuple[int, tuple[np.ndarray], np.ndarray | None]]:
    """Blocks first:stop, in slices of about SLICE_BYTES: number of the first sample, inputs, targets (None without)."""
    source = job.source
    inputs = np.empty((job.blocks.most_rows, *source.sample_shape), source.dtype)
    targets = source.empty_targets(len(inputs))
    step = max(1, SLICE_BYTES // max(1, source.input_bytes, source.target_bytes))
    for start, end in zip(*(edge.tolist() for edge in job.blocks.bounds(np.arange(first, stop))), strict=True):
        rows = end - start
        source.read(start, inputs[:rows], None if targets is None else targets[:rows])
        for at in range(0, rows, step):
            part = slice(at, min(at + step, rows))
            yield start + at, (inputs[part],), None if targets is None else targets[part]


def members(rows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return rows if inside.all() else rows[inside]


def kept_axes(job: Job) -> tuple[int, ...]:
    """The axes of a sample along which constants differ."""
    dims = len(job.source.sample_shape)
    if job.axis == "feature":
        return tuple(range(dims))
    return () if job.axis == "all" or job.channel_axis is None or dims == 0 else (job.channel_axis % dims,)


def target_axes(job: Job) -> tuple[int, ...]:
    """Every number of a target, or of a position, has its own constants, unless they are as many as in images."""
    shape, first = job.source.target_shape or (), int(job.per_position)
    return tuple(range(first, len(shape))) if math.prod(shape[first:]) <= MOST_TARGETS else ()


def check_finite(source: Source, name: str, start: int, rows: np.ndarray) -> None:
    """Raise DataError naming the first sample with NaN or infinity."""
    if rows.dtype.kind != "f" or (finite := np.isfinite(rows)).all():
        return
    bad = int(np.argmin(finite.reshape(len(rows), -1).all(axis=1)))
    file, row = source.where(start + bad)
    value = rows[bad][~finite[bad]].flat[0]
    raise DataError(
        f"{file}: '{name}' holds {value} in sample {row} (counted from 0), "
        "expected finite numbers; repair or leave out such samples."
    )


def check_vocabulary(source: Source, start: int, rows: np.ndarray, vocabulary: int) -> None:
    """Raise DataError naming the first sample with a token that the embedding has no row for."""
    bad = (rows < 0) | (rows >= vocabulary)
    if not bad.any():
        return
    at = int(np.argmax(bad.reshape(len(rows), -1).any(axis=1)))
    file, row = source.where(start + at)
    token = int(rows[at][bad[at]].flat[0])
    advice = f"vocabulary must be at least {token + 1}" if token >= 0 else "tokens count from 0"
    raise DataError(
        f"{file}: '{source.inputs_name}' holds the token {token} in sample {row} (counted from 0), "
        f"but [network] vocabulary = {vocabulary}; {advice}."
    )


def checked_labels(source: Source, start: int, targets: np.ndarray) -> np.ndarray:
    """Labels (n, T) int64, or DataError naming the first that cannot be a class."""
    targets = targets.reshape(len(targets), -1)
    labels = targets.astype(np.int64)
    bad = (labels < 0) | (labels >= MOST_CLASSES)
    if bad.any():
        at = int(np.argmax(bad.any(axis=1)))
        file, row = source.where(start + at)
        raise DataError(
            f"{file}: '{source.targets_name}' holds the label {targets[at][bad[at]][0]} in sample {row} "
            f"(counted from 0), expected 0 to {MOST_CLASSES - 1}; "
            'number the classes from 0, or set [data] task = "regression".'
        )
    return labels


def add_counts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two count arrays of any lengths."""
    result = np.zeros(max(len(a), len(b)), np.int64)
    result[: len(a)] += a
    result[: len(b)] += b
    return result


def combine(source: Source, segments: list[Segment], axis: str) -> Statistics:
    """Merge the segments in their order."""
    problems = [segment.problem for segment in segments if segment.problem]
    if problems:
        raise DataError(problems[0])
    samples = sum(segment.samples for segment in segments)
    dims = len(source.sample_shape)
    mean, std = np.zeros((1,) * dims, np.float32), np.ones((1,) * dims, np.float32)
    if axis != "none":
        mean, std = constants(source, source.inputs_name, [segment.inputs for segment in segments])
    if source.target_dtype is None:
        return Statistics(mean, std, samples)
    largest = max(segment.largest for segment in segments)
    if largest >= 0:
        counts = reduce(
            add_counts,
            [s.class_counts for s in segments if s.class_counts is not None],
            np.zeros(largest + 1, np.int64),
        )
        return Statistics(mean, std, samples, largest + 1, counts)
    target_mean, target_std = constants(source, str(source.targets_name), [segment.targets for segment in segments])
    return Statistics(mean, std, samples, target_mean=target_mean, target_std=target_std)


def constants(source: Source, name: str, segments: list[Moments | None]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, float32, of moments merged in the order given."""
    total = reduce(merge, segments)
    assert total is not None
    std = np.sqrt(total.squares / total.number)
    std = np.where(std <= 1e-12 * np.abs(total.mean), 0.0, std)  # a constant, up to the rounding of its mean
    with np.errstate(over="ignore"):
        mean32, std32 = total.mean.astype(np.float32), std.astype(np.float32)
    if not (np.isfinite(mean32).all() and np.isfinite(std32).all()):
        raise DataError(
            f"{source.files[0]}: '{name}' holds values too large for 32-bit floating point (3.4e38); rescale them."
        )
    return mean32, std32
