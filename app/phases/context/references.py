"""What new samples are compared with: measured over all ranks, once for the data and once for each network."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import torch

from app.data.batches import Batch, batches
from app.data.features import Features, input_features
from app.data.profile import Profile, counts_of, profile_of, sampled
from app.errors import NumbersError
from app.inference.references import Reference, output_features, output_values
from app.inputfile.phases import Evaluate, Predict
from app.learning.pipeline import Pipeline
from app.networks.sparse import running_sparse
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork, stored_network
from app.phases.context.pipelines import make_pipeline
from app.storage.artifact_file import stored_checksum
from app.storage.tree import Tree

FORMAT = 1  # of what is kept; of another one it is measured anew
FEATURES = 1024  # that are compared at most, where no monitor table says so
OUTPUTS = 20_000  # that give the distributions, about
FEWEST_SAMPLES = 1000  # of which they are, where each sample has very many
BATCH_SIZE = 256


def reference_of(context: Context, network: str) -> Reference | None:
    """What the network of an earlier phase was trained on, and what it makes of the validation part; None without data.

    It is measured the first time and kept in run.h5, where a restart finds it. Collective over: world. Raises
    DataError, ArtifactError, and NumbersError for outputs that are not finite.
    """
    if context.known_data is None:
        return None
    inputs = input_reference(context, features_wanted(context))
    path = context.folder.network(network)
    part = "validation" if context.data.split.count("validation") else "train"
    key = f"{FORMAT} {part} {context.together(lambda: stored_checksum(path))} {context.plan.input.run.precision}"
    kept = _kept(context, ("phases", network, "reference"), key)
    if kept is None:
        context.log.info(f"{network}: measuring what its outputs look like on the {part} part, for comparison")
        outputs = _measured(context, network, part)
        tree: Tree = {name: profile.to_tree() for name, profile in outputs.items()}
        _keep(context, ("phases", network, "reference"), key, tree)
        return Reference(inputs, outputs, part)
    return Reference(inputs, {name: Profile.from_tree(one) for name, one in kept.items()}, part)


def features_wanted(context: Context) -> int:
    """How many inputs are compared at most: as many as any predict phase asks for."""
    tables = [phase.monitor for phase in context.plan.input.phase if isinstance(phase, Predict)]
    return max((table.features for table in tables if table is not None), default=FEATURES)


def input_reference(context: Context, features: int) -> Profile:
    """The distribution of at most so many inputs over the training part, kept in run.h5 under data/reference.

    Collective over: world. Raises DataError.
    """
    data, memory = context.data, context.plan.input.data.memory
    wanted = input_features(data.source.sample_shape, data.transform, features)
    key = f"{FORMAT} {len(wanted.chosen)} {context.world.bcast(_data_key(context) if context.speaks else None)}"
    kept = _kept(context, ("data", "reference"), key)
    if kept is not None:
        return Profile.from_tree(kept)
    context.log.info("reading the training part once, to measure what new samples are compared with")
    seed = context.plan.input.run.seed
    found = context.together(lambda: sampled(data.source, data.split, wanted, seed) if context.speaks else None)
    profile = context.world.bcast(found)
    rank, size = context.world.rank, context.world.size
    counts = context.together(
        lambda: counts_of(profile, data.source, data.split, member=rank, members=size, memory_bytes=memory)
    )
    with context.watchdog.operation("sum of the counts of training samples"):
        context.everyone.sum_(counts)
    profile = profile.with_counts(counts, data.split.count("train"))
    _keep(context, ("data", "reference"), key, profile.to_tree())
    return profile


def output_reference(
    context: Context, features: Mapping[str, Features], outputs: Iterable[np.ndarray]
) -> dict[str, Profile]:
    """The distributions of the outputs that all ranks have, each (M, ...) float32 of its own, in any order.

    Collective over: world. Raises NumbersError, on every rank, for outputs that are not finite.
    """
    samples, problem, parts = 0, "", {name: [np.zeros((len(one.chosen), 0))] for name, one in features.items()}
    for one in outputs:
        if not np.isfinite(one).all():
            problem = problem or "outputs of the network on its own data are not finite"
            continue
        samples += len(one)
        for name, values in output_values(features, one).items():
            parts[name].append(values)
    own = {name: np.concatenate(found, axis=1) for name, found in parts.items()}
    with context.watchdog.operation("gathering of outputs for comparison"):
        everyone = context.world.allgather((problem, samples, own))
    problems = [found for found, _, _ in everyone if found]
    if problems:
        raise NumbersError(f"{problems[0]}.").on_every_rank()
    total = sum(number for _, number, _ in everyone)
    return {
        name: profile_of(one, np.concatenate([found[name] for _, _, found in everyone], axis=1), total)
        for name, one in features.items()
    }


def _measured(context: Context, network: str, part: str) -> dict[str, Profile]:
    """Play a network of the run on part of a part. Collective over: world."""
    table = Evaluate(kind="evaluate", name=network, batch_size=BATCH_SIZE)
    grid = context.plan.input.grid.model_copy(update={"cut": "estimated"})  # measuring would take longer than it saves
    given = context.plan.input.model_copy(update={"grid": grid})
    own = replace(context, plan=replace(context.plan, input=given))
    built = stored_network(own, table, context.folder.network(network))
    pipeline = make_pipeline(own, built, lambda outputs, targets: torch.zeros(()))
    with running_sparse(pipeline.chunks.values(), built.sparse, bf16=pipeline.bf16):
        features = output_features(given.data.task == "classification", context.data.outputs)
        found = output_reference(own, features, _outputs(pipeline, _batches(own, table, part, built)))
    pipeline.close()
    context.timers.reset()  # none of this belongs to the phase that asks
    return found


def _batches(context: Context, table: Evaluate, part: str, built: BuiltNetwork) -> Iterator[Batch]:
    """As many batches as are wanted, mixed from all over the part: the same samples on any grid."""
    given, data = context.plan.input, context.data
    shape = tuple(built.cut.costs[-1].output_shape)
    positions = prod(shape[:-1]) if given.data.task == "classification" else max(1, prod(shape) // data.outputs)
    samples = max(FEWEST_SAMPLES, OUTPUTS // positions)
    found = batches(
        data.source,
        data.split,
        part,
        data.transform,
        seed=given.run.seed,
        epoch=0,
        batch_size=table.batch_size,
        microbatch_size=table.microbatch,
        replica=context.replica,
        replicas=context.plan.grid.replicas,
        memory_bytes=given.data.memory,
        wants=context.wants,
    )
    with closing(found) as opened:  # type: ignore[type-var]
        yield from islice(opened, -(-samples // table.batch_size))


def _outputs(pipeline: Pipeline, found: Iterable[Batch]) -> Iterator[np.ndarray]:
    """Outputs of this replica's microbatches on the last stage; elsewhere nothing comes. Collective over: pipeline."""
    for chunk in pipeline.chunks.values():
        chunk.eval()
    with torch.inference_mode():
        for batch in found:
            for one in pipeline.evaluate(batch):
                yield one.outputs.cpu().numpy()


def _data_key(context: Context) -> str:
    """What is known of the samples of [data], by which a change of them shows."""
    measured: Any = context.results.read().get("data", {})
    return str(measured.get("key"))


def _kept(context: Context, place: tuple[str, ...], key: str) -> Any:
    """What an earlier call has kept there, None unless it is of this key. Collective over: world."""

    def read() -> Any:
        tree: Any = context.results.read()
        for name in place:
            tree = tree.get(name, {})
        return tree.get("profiles") if tree.get("key") == key else None

    return context.world.bcast(context.together(lambda: read() if context.speaks else None))


def _keep(context: Context, place: tuple[str, ...], key: str, profiles: Tree) -> None:
    """Collective over: world."""
    changes: Tree = {"key": key, "profiles": profiles}
    for name in reversed(place):
        changes = {name: changes}
    context.alone(lambda: context.results.update(changes, context.provenance))
