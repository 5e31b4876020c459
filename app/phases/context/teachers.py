"""The teachers of a distill phase: networks of earlier phases and of other runs, and functions of the user's."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.data.statistics import Statistics
from app.data.transform import Transform
from app.errors import ArtifactError, InputError
from app.inputfile.networks import Transformer, UserNetwork
from app.inputfile.phases import Distill, Evaluate
from app.learning.training import checksum
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork, new_network, read_known, stored_network
from app.plan.distillation import is_file, is_function
from app.storage.artifact_file import stored_checksum
from app.storage.header_walk import check_artifact
from app.storage.networks import KIND, StoredNetwork


class Teacher(NamedTuple):
    """A teacher by the input file's word for it.

    context: the run as the teacher sees it, with inputs as it was trained on. table: how it is played. identity: a text
    that differs when the teacher does. build: its network; collective over: world.
    """

    name: str
    context: Context
    table: Evaluate
    identity: str
    build: Callable[[], BuiltNetwork]


@contextmanager
def said_of(subject: str) -> Iterator[None]:
    """Begin a user's mistake that is found inside with what it is about."""
    try:
        yield
    except (InputError, ArtifactError) as error:
        told = type(error)(*(f"{subject}: {problem}" for problem in error.problems))
        told.everywhere = error.everywhere
        raise told from None


def open_teacher(context: Context, phase: Distill, name: str) -> Teacher:
    """A teacher of a phase; a function of the user's is called, any other network is not built yet.

    Collective over: world. Raises ArtifactError, InputError: it cannot be read, or does not go with this run's data.
    """
    # Nothing is kept for a backward pass, whose bytes a phase that trains would count.
    table = Evaluate(kind="evaluate", name=phase.name, batch_size=phase.batch_size, microbatch_size=phase.microbatch)
    with said_of(f'[[phase]] "{phase.name}": teacher = "{name}"'):
        if is_function(name):
            own = _as_seen(context, context.data.transform)
            built = new_network(own, table, UserNetwork(kind=name))
            return Teacher(name, own, table, f"{name} {_weights(context, built)}", lambda: built)
        path = path_of(context, name)
        if is_file(name):
            context.alone(lambda: check_artifact(path, KIND))
        stored = context.together(lambda: read_known(context, path))
        transform = context.data.transform
        if is_file(name):
            transform = context.together(lambda: _transform_of_other(context, path, stored))
        own = _as_seen(context, transform)
        identity = context.together(lambda: stored_checksum(path))
        return Teacher(name, own, table, identity, lambda: stored_network(own, table, path))


def path_of(context: Context, name: str) -> Path:
    """Of the network of an earlier phase, or of another run."""
    return context.input_folder / name if is_file(name) else context.folder.network(name)


def _transform_of_other(context: Context, path: Path, stored: StoredNetwork) -> Transform:
    """As `transform_of`; ArtifactError as well, since a stranger may have written anything."""
    try:
        return transform_of(context, stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: its checksum is right, but it says not what its network was trained on"
            f" ({type(error).__name__}: {error})."
        ) from error


def transform_of(context: Context, stored: StoredNetwork) -> Transform:
    """From this run's stored samples to what a network of another run was trained on, with its own constants.

    Collective over: none. Raises InputError when it takes other samples or gives other outputs.
    """
    data, tree = context.data, stored.architecture
    shape: tuple[int, ...] = data.source.sample_shape
    ours, wanted = data.transform, tuple(tree["sample_shape"])  # type: ignore[arg-type]
    if ours.statistics is not None or not ours.tokens:
        ours = replace(ours, statistics=Statistics.from_tree(stored.extras["data"]))  # type: ignore[arg-type]
    ways = [replace(ours, add_channel=add) for add in (ours.add_channel, not ours.add_channel)]
    fitting = [way for way in ways if way.sample_shape(shape) == wanted]
    problems = _other_tokens(context, tree)
    if tree["outputs"] != data.outputs:
        problems.append(f"it has {tree['outputs']} outputs, but the data of this run need {data.outputs}.")
    if not fitting:
        problems.append(f"it takes samples of shape {wanted}, but those of this run have {data.sample_shape}.")
    elif ours.statistics is not None and not _spreads(ours.statistics.mean.shape, shape):
        problems.append(
            f"the constants of its data, of shape {ours.statistics.mean.shape}, do not go with stored samples of shape"
            f" {shape}: its data had another [data] layout; store these in the same one."
        )
    if problems:
        raise InputError(*problems)
    return fitting[0]


def _spreads(constants: tuple[int, ...], sample: tuple[int, ...]) -> bool:
    """Whether constants can be broadcast to a sample."""
    return len(constants) == len(sample) and all(n in (1, m) for n, m in zip(constants, sample, strict=True))


def _other_tokens(context: Context, tree: Mapping[str, Any]) -> list[str]:
    """Of a built-in network; what a user's takes shows when it is built."""
    table = context.plan.input.network
    own = table.vocabulary if isinstance(table, Transformer) else 0
    its = tree["options"].get("vocabulary", 0) if tree["kind"] == "transformer" else 0
    if ".py:" in tree["kind"] or (bool(its) == bool(own) and its >= own):
        return []
    takes = f"tokens below {its}" if its else "features"
    return [f"it takes {takes}, but the samples of this run are {f'tokens below {own}' if own else 'features'}."]


def _as_seen(context: Context, transform: Transform) -> Context:
    """The run with a teacher's own inputs. Its layers are cut by estimated times: names in [grid] cut are those of the
    student's, and measuring would take longer than it saves.
    """
    data = replace(
        context.data, transform=transform, sample_shape=transform.sample_shape(context.data.source.sample_shape)
    )
    grid = context.plan.input.grid.model_copy(update={"cut": "estimated"})
    given = context.plan.input.model_copy(update={"grid": grid})
    return replace(context, known_data=data, plan=replace(context.plan, input=given))


def _weights(context: Context, built: BuiltNetwork) -> str:
    """A text that differs when a weight does, the same however the layers are cut. Collective over: world."""
    own = {name: checksum(layer.state_dict()) for name, layer in built.network.named_children()}
    with context.watchdog.operation("comparison of a teacher's weights"):
        everyone = context.world.allgather(own)
    found = {name: value for one in everyone for name, value in one.items()}
    return hashlib.sha256(repr([found[name] for name in built.names]).encode()).hexdigest()


def constants_of(transform: Transform) -> bytes:
    """What the numbers of a transform's outputs depend on, beside the samples."""
    numbers = transform.statistics
    arrays = () if numbers is None else (numbers.mean, numbers.std)
    words = (transform.layout, transform.add_channel, transform.tokens)
    return b"".join([repr(words).encode(), *(np.ascontiguousarray(array).tobytes() for array in arrays)])
