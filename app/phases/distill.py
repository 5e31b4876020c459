"""The distill phase: a student trained to do what its teachers do, on the training part."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from app.data.batches import Batch, Microbatch
from app.errors import InputError
from app.inputfile.networks import UserNetwork
from app.inputfile.phases import Distill
from app.inputfile.sentences import nearest
from app.learning.distillation import Taught, followed, softened, student_loss
from app.learning.hints import Hint, Hints, is_hint, mismatch
from app.learning.losses import loss
from app.learning.pipeline import Loss
from app.learning.teaching import OUTPUTS, layer_subject
from app.learning.training import load_weights_
from app.phases.context import Context
from app.phases.context.fitting import Fit, How, plainly
from app.phases.context.networks import BuiltNetwork, new_network, stored_network
from app.phases.context.reading import announce_reading, read_batches
from app.phases.context.storing import store_network
from app.phases.context.teachers import open_teacher, path_of, said_of
from app.phases.context.teaching import given_by
from app.plan.distillation import is_function
from app.plan.plan import PhasePlan, loss_of
from app.storage.teachers import Rows, open_rows
from app.storage.tree import Tree

IN_MEMORY = 4  # what teachers give is read into memory up to one part in so many of [data] memory


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Train the student to the end, from the newest checkpoint where there is one; the metrics of what is handed on.

    Collective over: world. Raises NumbersError when training diverges or a teacher's outputs are not finite; InputError
    and ArtifactError for teachers, students and hints that cannot be.
    """
    phase: Distill = plan.phase  # type: ignore[assignment]
    announce_reading(context, phase)
    built = _student(context, phase)
    lessons = _lessons(context, phase, built)
    fit = Fit(context, phase, built, _how(context, phase, lessons))
    lessons.hints.begin(fit.pipeline)
    fit.run()
    lessons.hints.remove_()
    weights = {name: tensor for name, tensor in fit.weights().items() if not is_hint(name)}
    load_weights_(built.network, weights)
    _record(context, phase)
    from app.phases.context.appraising import appraise, record  # nothing is to come before the first step without need

    found = appraise(context, phase, built)
    store_network(context, phase.name, weights, built, {**fit.row(), "appraisal": found._asdict()})
    record(context, phase.name, None, found)
    return fit.row() | {"samples_per_s": fit.samples_per_s()}


class _Lessons(NamedTuple):
    """What this rank takes from the teachers: outputs of all of them on the last stage, and the hints of its layers.

    wants: what it reads of the samples.
    """

    outputs: Sequence[Rows]
    hints: Hints
    wants: frozenset[str]

    def taught(self, microbatch: Microbatch) -> Microbatch:
        """With the teachers' outputs beside the targets, where this rank has them."""
        if not self.outputs:
            return microbatch
        assert microbatch.samples is not None  # the last stage reads targets
        assert microbatch.targets is not None
        given = torch.from_numpy(np.stack([rows.take(microbatch.samples) for rows in self.outputs]))
        # The pipeline hands targets to the loss as they are.
        return microbatch._replace(targets=cast("torch.Tensor", Taught(microbatch.targets, given)))


def _student(context: Context, phase: Distill) -> BuiltNetwork:
    """The network to train, as the phase's keys say. Collective over: world."""
    if phase.student is not None:
        with said_of(f'[[phase]] "{phase.name}": student'):
            return new_network(context, phase, phase.student)
    if phase.layers is None:
        return stored_network(context, phase, context.folder.network(str(phase.network)))
    first = phase.teacher[0]
    with said_of(f'[[phase]] "{phase.name}": layers of teacher {first!r}'):
        if is_function(first):
            return new_network(context, phase, UserNetwork(kind=first), phase.layers)
        return stored_network(context, phase, path_of(context, first), phase.layers)


def _lessons(context: Context, phase: Distill, built: BuiltNetwork) -> _Lessons:
    """Those of the teachers that the loss needs, computed where they are not there yet. Collective over: world."""
    hints = phase.used_hints
    needed = phase.teacher if phase.soft else phase.teacher[:1] if hints else ()
    _refuse_unknown(phase, built)
    shards = []
    for number, name in enumerate(needed):
        layers = () if number else tuple(dict.fromkeys(hints.values()))
        teacher = open_teacher(context, phase, name)
        shards.append(given_by(context, phase.name, teacher, layers, partial(_refuse_mismatch, phase, built)))
    last = context.stage == context.plan.grid.stages - 1
    held = {student: layer for student, layer in hints.items() if student in built.network._modules}
    wanted = [(one, OUTPUTS) for one in shards if last and phase.soft]
    wanted += [(shards[0], layer_subject(layer)) for layer in held.values()]
    rows = context.together(lambda: open_rows(wanted, context.plan.input.data.memory // IN_MEMORY))
    outputs = rows[: len(wanted) - len(held)]
    shapes = _shapes(built)
    own = {name: Hint(shapes[name], one.shape, one.take) for name, one in zip(held, rows[len(outputs) :], strict=True)}
    made = Hints(built.network, own, phase.hint_weight, context.plan.input.run.seed, context.device)
    return _Lessons(outputs, made, context.wants | ({"targets"} if own else set()))


def _shapes(built: BuiltNetwork) -> dict[str, tuple[int, ...]]:
    """Of the outputs of all layers."""
    return {name: tuple(cost.output_shape) for name, cost in zip(built.names, built.cut.costs, strict=True)}


def _refuse_unknown(phase: Distill, built: BuiltNetwork) -> None:
    unknown = [name for name in phase.used_hints if name not in built.names]
    if unknown:
        ends = [f"the student has no layer {name!r}{nearest(name, built.names)}" for name in unknown]
        raise InputError(*(f'[[phase]] "{phase.name}": hints: {end}' for end in ends)).on_every_rank()


def _refuse_mismatch(phase: Distill, built: BuiltNetwork, teachers: Mapping[str, tuple[int, ...]]) -> None:
    """teachers: shapes of the outputs of the teacher's layers."""
    own = _shapes(built)
    problems = [
        f'[[phase]] "{phase.name}": hints: {student} = "{layer}": outputs of shape {own[student]} cannot be compared'
        f" with the teacher's, of shape {teachers[layer]}: {why}."
        for student, layer in phase.used_hints.items()
        if (why := mismatch(own[student], teachers[layer]))
    ]
    if problems:
        raise InputError(*problems).on_every_rank()


def _how(context: Context, phase: Distill, lessons: _Lessons) -> How:
    """As the train phase, but the training part comes with lessons, and the loss heeds them."""

    def read(epoch: int, start_step: int) -> Iterator[Batch]:
        found = read_batches(context, phase, "train", epoch=epoch, start_step=start_step, wants=lessons.wants)
        for batch in found:
            with context.timers("read"):
                taught = batch._replace(microbatches=tuple(map(lessons.taught, batch.microbatches)))
            lessons.hints.batch_size = batch.size  # until the next one is asked for, this one is at work
            yield taught

    plain = plainly(context, phase)
    return plain._replace(loss=student_loss(plain.loss, _soft_loss(context, phase), phase.soft), read=read)


def _soft_loss(context: Context, phase: Distill) -> Loss:
    task = context.plan.input.data.task
    if task == "classification":
        return softened(phase.temperature)
    name = loss_of(phase, task)
    return followed(loss(name), probabilities=name == "bce")


def _record(context: Context, phase: Distill) -> None:
    """Say in run.h5 what the student has learned from. Collective over: world."""
    table: Tree = {"teacher": list(phase.teacher), "temperature": phase.temperature, "soft": phase.soft}
    if phase.used_hints:
        table |= {"hints": dict(phase.used_hints), "hint_weight": phase.hint_weight}
    changes: Tree = {"phases": {phase.name: table}}
    context.alone(lambda: context.results.update(changes, context.provenance_of(phase.name)))
