"""The predict phase: a network applied to samples, each once and in order, by all ranks."""

import math
import time
from typing import TYPE_CHECKING

from app.data.features import input_features
from app.data.signature import Signature
from app.errors import ArtifactError
from app.inputfile.phases import Predict
from app.phases.context import Context
from app.phases.context.teachers import said_of
from app.phases.predict.collecting import Asked, check_asked
from app.phases.predict.forward import Forward, forward_of
from app.phases.predict.networks import Found, find_network, signature_for
from app.phases.predict.pieces import cut
from app.phases.predict.playing import Work, key_of, missing_pieces, play
from app.phases.predict.result import join
from app.phases.predict.samples import NewSamples, open_samples
from app.plan.plan import PhasePlan
from app.storage import predictions

if TYPE_CHECKING:
    from app.inference.references import Reference


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """Predictions of all samples in predictions/NAME.h5, tables in run.h5; the numbers of these.

    What an earlier start has predicted is kept. Collective over: world. Raises Stopped; ArtifactError, DataError,
    InputError, MachineError, NumbersError on all ranks.
    """
    phase: Predict = plan.phase  # type: ignore[assignment]
    with said_of(f'[[phase]] "{phase.name}"'):
        found = find_network(context, plan)
    samples = open_samples(context, phase, found.signature.inputs if found.signature else "")
    try:
        return _predicted(context, plan, phase, found, samples)
    finally:
        samples.close()


def _predicted(
    context: Context, plan: PhasePlan, phase: Predict, found: Found, samples: NewSamples
) -> dict[str, float]:
    with said_of(f'[[phase]] "{phase.name}"'):
        signature = context.together(lambda: signature_for(found, samples.source))
        reference = _reference(context, plan, found, signature)
    with forward_of(context, phase, found, signature, samples) as forward:
        work = _work(context, phase, found, samples, signature, reference, forward)
        missing = missing_pieces(context, work)
        _announce(context, work, found, len(missing))
        begun = time.monotonic()
        played = play(context, work, forward, missing)
        result = join(context, work, found, played, begun)
    for warning in result.warnings:
        context.log.warn(f"{phase.name}: {warning}")
    context.alone(lambda: predictions.delete(work.folder, range(work.pieces.number)))
    return result.numbers


def _work(
    context: Context,
    phase: Predict,
    found: Found,
    samples: NewSamples,
    signature: Signature,
    reference: "Reference | None",
    forward: Forward,
) -> Work:
    """Collective over: world. Raises InputError, DataError."""
    asked = Asked(phase, signature, samples, reference, forward.outputs)
    with said_of(f'[[phase]] "{phase.name}"'):
        context.together(lambda: check_asked(asked))
    microbatch = min(phase.microbatch, phase.batch_size)
    numbers, memory = math.prod(forward.outputs), context.plan.input.data.memory
    pieces, plan = context.together(
        lambda: cut(samples.source, samples.split, samples.part, phase.batch_size, microbatch, numbers, memory)
    )
    key = key_of(context, asked, found.identity, pieces)
    return Work(context.folder.work(phase.name), key, pieces, plan, asked)


def _reference(context: Context, plan: PhasePlan, found: Found, signature: Signature) -> "Reference | None":
    """What inputs and outputs are compared with. Collective over: world. Raises as `reference_of`."""
    phase: Predict = plan.phase  # type: ignore[assignment]
    if phase.monitor is None:
        return None
    from app.inference.references import Reference

    if plan.networks:
        from app.phases.context.references import reference_of

        reference = reference_of(context, found.source)
    else:
        tree = found.onnx.reference if found.onnx else None
        reference = None if tree is None else Reference.from_tree(tree)
        context.together(lambda: _refuse_other_reference(found, signature, reference))
    if reference is None:
        context.log.warn(
            f"{phase.name}: what {found.source} was trained on is not known, so that drift cannot be looked for. What"
            " to try: an ONNX file of an export phase, or the network of a phase of this run."
        )
    return reference


def _refuse_other_reference(found: Found, signature: Signature, reference: "Reference | None") -> None:
    """A stranger may have written anything. Raises ArtifactError."""
    if reference is None:
        return
    numbers = input_features(signature.stored_shape, signature.transform, 1).size
    said, values = reference.inputs.features.size, reference.outputs.get("value")
    if said != numbers or (values is not None and values.features.size != signature.outputs):
        raise ArtifactError(
            f"{found.path}: what it says of its training data is of samples of {said} numbers, but it takes {numbers},"
            " or of other outputs; it was changed after Phalanx wrote it."
        )


def _announce(context: Context, work: Work, found: Found, missing: int) -> None:
    phase, pieces = work.asked.phase, work.pieces
    for note in (*work.asked.samples.source.notes, *work.plan.notes):
        context.log.warn(note)
    by = f" by ONNX Runtime, {found.onnx.provider}" if found.onnx else ""
    there = f", {pieces.number - missing} of them there already" if missing < pieces.number else ""
    context.log.info(
        f"{phase.name}: {pieces.count:,} samples through {found.source}{by}, {pieces.number} pieces of"
        f" {pieces.rows:,}{there}"
    )
