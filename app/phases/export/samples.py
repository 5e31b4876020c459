"""Samples as they are stored, for checking, measuring and calibrating."""

from collections.abc import Iterator

import numpy as np

from app.data.batches import Batch, batches
from app.data.signature import Signature
from app.data.transform import Transform
from app.inputfile.phases import Export
from app.phases.context import Context

CALIBRATED = 32  # samples at once
_SPREAD = 2.0  # of numbers that stand in for samples, in deviations


def stored_batches(context: Context, phase: Export, part: str) -> Iterator[Batch]:
    """This rank's microbatches of a part, in file order, with inputs as they are stored."""
    size = phase.batch_size
    return _read(
        context, part, size, -(-size // 4), shuffle=False, member=context.world.rank, members=context.world.size
    )


def first_rows(context: Context, phase: Export, signature: Signature) -> np.ndarray:
    """At most a batch of the phase's part (M, *stored_shape); without data random numbers in their place."""
    if context.known_data is None:
        return _made_up(signature, phase.batch_size, context.plan.input.run.seed)
    return next(_rows(context, phase.part, phase.batch_size, shuffle=False))


def calibration_rows(context: Context, phase: Export) -> Iterator[np.ndarray]:
    """Samples of the training part in the order of its first epoch, as many as the phase asks for."""
    left = phase.calibration
    for rows in _rows(context, "train", CALIBRATED, shuffle=True):
        yield rows[:left]
        left -= len(rows)
        if left <= 0:
            return


def _rows(context: Context, part: str, size: int, *, shuffle: bool) -> Iterator[np.ndarray]:
    for batch in _read(context, part, size, size, shuffle=shuffle, member=0, members=1):
        for one in batch.microbatches:
            assert one.inputs is not None  # they are wanted
            yield one.inputs.numpy()


def _read(
    context: Context, part: str, size: int, microbatch: int, *, shuffle: bool, member: int, members: int
) -> Iterator[Batch]:
    given, data = context.plan.input, context.data
    return batches(
        data.source,
        data.split,
        part,
        Transform(classification=data.transform.classification, stored=True),
        seed=given.run.seed,
        epoch=0,
        batch_size=size,
        microbatch_size=microbatch,
        replica=member,
        replicas=members,
        shuffle=shuffle,
        memory_bytes=given.data.memory,
    )


def _made_up(signature: Signature, samples: int, seed: int) -> np.ndarray:
    random, shape = np.random.default_rng(seed), (samples, *signature.stored_shape)
    transform = signature.transform
    if transform.tokens:
        return random.integers(0, 2, shape)
    rows = random.normal(0, _SPREAD, shape)
    if transform.statistics is not None:
        rows = transform.statistics.mean + rows * transform.statistics.std
    return rows.astype(np.float32)
