"""What a teacher gives for the training part: computed once, kept in the run folder for every later use."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from app.errors import ArtifactError, InputError, NumbersError
from app.inputfile.sentences import nearest
from app.learning.teaching import OUTPUTS, layer_subject, teach
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import read_batches
from app.phases.context.teachers import Teacher, constants_of, said_of
from app.plan.microbatches import steps_per_epoch
from app.plan.show import bytes_text
from app.report.progress import Progress
from app.storage import teachers
from app.storage.teachers import Shard, ShardWriter

FORMAT = 1  # of what shards hold; with another one they are made anew

Check = Callable[[Mapping[str, tuple[int, ...]]], None]


def given_by(context: Context, phase: str, teacher: Teacher, layers: Sequence[str], check: Check) -> list[Shard]:
    """The shards with a teacher's outputs, and those of some of its layers, of all samples of the training part.

    They are made where they are not there, are damaged, or are of another teacher or other data. check: refuses shapes
    of the layers' outputs, by name, before anything is computed. The same on every rank. Collective over: world. Raises
    InputError, ArtifactError, and NumbersError for outputs that are not finite.
    """
    subjects = [OUTPUTS, *map(layer_subject, layers)]
    key, folder = _key(teacher, subjects), context.folder.teacher(_folder_name(teacher, subjects))
    begun, count = time.monotonic(), context.data.split.count("train")
    shards = _whole(context, folder, key, subjects)
    how = "is there already"
    if shards is None:
        context.alone(lambda: teachers.clear(folder))
        provenance = context.provenance_of(phase)
        _make(context, phase, teacher, layers, check, ShardWriter(folder, context.world.rank, key, provenance))
        how, shards = f"took {time.monotonic() - begun:.1f} s", _whole(context, folder, key, subjects)
    if shards is None:
        raise ArtifactError(
            f"{folder}: what teacher {teacher.name!r} gives was just written there and cannot be read; is the run"
            " folder on a file system that all ranks share?"
        ).on_every_rank()
    check({layer: _shape(shards, layer_subject(layer)) for layer in layers})
    size = bytes_text(sum(rows.bytes for shard in shards for rows in shard.rows.values()))
    context.log.info(f"{phase}: what {teacher.name} gives for {count:,} training samples, {size}, {how}")
    return shards


def _whole(context: Context, folder: Path, key: str, subjects: Sequence[str]) -> list[Shard] | None:
    """The shards of this key, None where they lack a sample; every rank checks a share. Collective over: world."""
    world = context.world
    paths = world.bcast(teachers.shard_paths(folder) if context.speaks else None)
    own = [teachers.examine(path) for path in paths[world.rank :: world.size]]
    with context.watchdog.operation("checking of what a teacher gives"):
        everyone = world.allgather(own)
    found = [everyone[number % world.size][number // world.size] for number in range(len(paths))]
    shards = [shard for shard in found if shard is not None and shard.key == key]
    count = context.data.split.count("train")
    whole = all(sum(shard.size for shard in shards if subject in shard.rows) == count for subject in subjects)
    return shards if whole else None


def _make(
    context: Context, phase: str, teacher: Teacher, layers: Sequence[str], check: Check, writer: ShardWriter
) -> None:
    """Play the teacher over the training part, in file order. Collective over: world."""
    seen = teacher.context
    with said_of(f'[[phase]] "{phase}": teacher = "{teacher.name}"'):
        built = teacher.build()
    _refuse_unknown(phase, teacher, layers, built)
    shapes = dict(zip(built.names, (tuple(cost.output_shape) for cost in built.cut.costs), strict=True))
    check({layer: shapes[layer] for layer in layers})
    pipeline = make_pipeline(seen, built, lambda outputs, targets: torch.zeros(()))
    own = {name: layer for name, layer in built.network.named_children() if name in layers}
    wants = seen.wants | ({"targets"} if own else set())  # whoever writes rows has to know the samples' numbers
    steps = steps_per_epoch(context.data.split.count("train"), teacher.table.batch_size)
    every_s = context.plan.input.run.log_seconds
    with Progress(context.log, f"{phase}: {teacher.name}", steps=steps, every_s=every_s) as progress:
        problem = teach(
            pipeline,
            read_batches(seen, teacher.table, "train", wants=wants),
            own,
            writer.add,
            lambda batch: progress.update(0, batch.step, batch.size),
        )
    writer.flush()
    pipeline.close()
    context.timers.reset()  # none of this belongs to an epoch
    with context.watchdog.operation("agreement on what a teacher gives"):
        problems = [found for found in context.world.allgather(problem) if found]
    if problems:
        raise NumbersError(f'[[phase]] "{phase}": teacher = "{teacher.name}": {problems[0]}').on_every_rank()


def _refuse_unknown(phase: str, teacher: Teacher, layers: Sequence[str], built: BuiltNetwork) -> None:
    unknown = [name for name in layers if name not in built.names]
    if unknown:
        ends = [f"teacher {teacher.name!r} has no layer {name!r}{nearest(name, built.names)}" for name in unknown]
        raise InputError(*(f'[[phase]] "{phase}": hints: {end}' for end in ends)).on_every_rank()


def _shape(shards: Sequence[Shard], subject: str) -> tuple[int, ...]:
    """Of a row."""
    return next(shard.rows[subject].shape[1:] for shard in shards if subject in shard.rows)


def _key(teacher: Teacher, subjects: Sequence[str]) -> str:
    """What the rows depend on."""
    given, data = teacher.context.plan.input, teacher.context.data
    words = (FORMAT, teacher.identity, data.source.fingerprint, given.data.inputs, given.run.precision, *subjects)
    return hashlib.sha256(repr((words, data.split)).encode() + constants_of(data.transform)).hexdigest()


def _folder_name(teacher: Teacher, subjects: Sequence[str]) -> str:
    """One for each teacher and choice of layers, so that another network under the same name replaces its rows."""
    word = re.sub(r"[^A-Za-z0-9_-]", "_", Path(teacher.name).stem)[:40]
    return f"{word}-{hashlib.sha256(repr((teacher.name, *subjects)).encode()).hexdigest()[:8]}"
