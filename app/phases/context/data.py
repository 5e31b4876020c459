"""The user's data, opened, checked against the input file, measured once and split."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from app.data.source import Source, open_source
from app.data.split import AnySplit, Split, StoredSplit
from app.data.statistics import Statistics, scan
from app.data.transform import Transform
from app.errors import DataError
from app.inputfile.models import Input
from app.inputfile.networks import Lenet, Resnet, Transformer, UserNetwork
from app.parallel.watchdog import Watchdog
from app.parallel.world import World
from app.phases.context import Context, DataSet
from app.report.log import Log
from app.storage.datasets import StoredSet, class_names, read_set
from app.storage.header_walk import check_data

T = TypeVar("T")
CHECKED = 500  # files that rank 0 looks through while the others, and their watchdog, wait
IMAGE_NETWORKS = (Lenet, Resnet)


class Samples:
    """The samples of [data], opened and measured when they are there: at the start, or once a phase has made them."""

    def __init__(self, given: Input, files: Sequence[Path], begun: Sequence[str], opened: ExitStack) -> None:
        """files: those of [data]. begun: the phases that an earlier start began. opened: closes what is opened."""
        self._given, self._files, self._begun, self._opened = given, files, begun, opened

    def known(self, context: Context) -> Context:
        """The context with them. Collective over: world. Raises DataError."""
        if context.known_data is not None or not self._given.has_data:
            return context
        made, results = self._given.data.phase, context.results
        files = self._files if made is None else (context.folder.data(made),)
        begun = any(name != made for name in self._begun)
        read = context.together(lambda: results.read().get("data") if context.speaks else None)
        known: Any = context.world.bcast(read)
        data, measured = open_data(self._given, files, known, begun, context.world, context.watchdog, context.log)
        context.alone(lambda: results.update({"data": measured}, context.provenance))
        self._opened.enter_context(data.source)
        return replace(context, known_data=data)


def open_data(
    given: Input,
    files: Sequence[Path],
    known: dict[str, Any] | None,
    begun: bool,
    world: World,
    watchdog: Watchdog,
    log: Log,
) -> tuple[DataSet, dict[str, Any]]:
    """The data set, and what was measured as a tree to keep.

    `known` is such a tree of an earlier start, or None; where phases have `begun` with it, the data must be the same.

    Collective over: world. Raises DataError, the same on every rank.
    """

    def together(action: Callable[[], T]) -> T:
        return world.together(action, lambda: watchdog.operation("agreement on the data"))

    for start in range(0, len(files), CHECKED):
        together(partial(_check, given, files[start : start + CHECKED], world))
    source = together(lambda: _open(given, files))
    for note in source.notes:
        log.warn(note)
    found = together(lambda: read_set(files[0])) if given.data.phase is not None else None
    split = _split(given, source, found)
    key = _key(given, found.digest if found is not None else source.fingerprint)
    if known is not None and known.get("key") == key:
        statistics = Statistics.from_tree(known["statistics"])
    else:
        if known is not None and begun:
            raise DataError(
                f"the data files ({', '.join(given.data.file or map(str, files))}) have changed since this run began:"
                " another size or date. Put them back, choose another [run] folder, or start over with --fresh."
            ).on_every_rank()
        log.info(f"reading all {source.length:,} samples once, to check them and to measure the training part")
        statistics = together(lambda: _scan(given, source, split, world))
    outputs = together(lambda: _outputs(given, source, statistics))
    names = together(lambda: _class_names(given, files[0], outputs))
    transform = _transform(given, source, statistics)
    shape = transform.sample_shape(source.sample_shape)
    return DataSet(source, split, statistics, transform, shape, outputs, names), {
        "key": key,
        "statistics": statistics.to_tree(),
    }


def _key(given: Input, fingerprint: str) -> str:
    """What the measured numbers depend on."""
    data = given.data
    parts = (fingerprint, data.inputs, data.targets, data.task, data.standardise, data.layout, data.validation)
    return repr((*parts, data.test, given.split_seed, given.network.kind, _vocabulary(given), _per_position(given)))


def _check(given: Input, files: Sequence[Path], world: World) -> None:
    """One process for all of them, not one a rank."""
    if world.rank == 0:
        check_data(files, (given.data.inputs, given.data.targets))


def _split(given: Input, source: Source, found: StoredSet | None) -> AnySplit:
    """As the samples are stored, where a preprocess phase has divided them."""
    if found is not None and found.parts is not None:
        return StoredSplit(found.parts)
    return Split(source.length, given.data.validation, given.data.test, given.split_seed)


def _class_names(given: Input, file: Path, outputs: int) -> tuple[str, ...]:
    """Those of the input file, else those that the targets carry; () where they are not known."""
    if given.data.task != "classification":
        return ()
    names = given.data.class_names or class_names(file, given.data.targets)
    if given.data.class_names and len(names) != outputs:
        raise DataError(
            f"[data] class_names has {len(names)} names, but there are {outputs} classes; give one for each."
        )
    return names if len(names) == outputs else ()


def _open(given: Input, files: Sequence[Path]) -> Source:
    data = given.data
    source = open_source(files, data.inputs, data.targets, cache_bytes=min(data.memory // 4, 64 << 20))
    if data.sample_shape is not None and data.sample_shape != source.sample_shape:
        raise DataError(
            f"[data] sample_shape = {list(data.sample_shape)}, but a sample of {data.inputs!r} in {files[0]} has the"
            f" shape {list(source.sample_shape)}; correct the key or leave it out."
        )
    return source


def _standardisation(given: Input, shape: tuple[int, ...]) -> tuple[str, int | None]:
    """What the constants are common to, and the axis of the channels in a stored sample."""
    network, wanted = given.network, given.data.standardise
    if _vocabulary(given):
        return "none", None
    if isinstance(network, Transformer) or given.data.layout == "channels_last":
        channel = len(shape) - 1
    else:
        channel = 0
    if wanted == "auto":
        sequence = isinstance(network, Transformer) and len(shape) == 2
        wanted = "channel" if len(shape) == 3 or sequence else "feature" if len(shape) == 1 else "all"
    return wanted, channel if wanted == "channel" else None


def _scan(given: Input, source: Source, split: AnySplit, world: World) -> Statistics:
    axis, channel = _standardisation(given, source.sample_shape)
    return scan(
        source,
        split,
        axis=axis,
        channel_axis=channel,
        classification=given.data.task == "classification",
        member=world.rank,
        members=world.size,
        gather=world.allgather,
        memory_bytes=given.data.memory,
        vocabulary=_vocabulary(given),
        per_position=_per_position(given),
    )


def _per_position(given: Input) -> bool:
    """Whether targets may be those of positions; of a user's network the outputs show it, once it is made."""
    if isinstance(given.network, UserNetwork):
        return given.data.task == "classification"
    return isinstance(given.network, Transformer) and given.network.pooling == "none"


def _vocabulary(given: Input) -> int:
    """Number of different tokens, 0 where the inputs are not tokens."""
    return given.network.vocabulary if isinstance(given.network, Transformer) else 0


def _transform(given: Input, source: Source, statistics: Statistics) -> Transform:
    axis, _ = _standardisation(given, source.sample_shape)
    return Transform(
        layout=given.data.layout if len(source.sample_shape) == 3 else "none",
        add_channel=isinstance(given.network, IMAGE_NETWORKS),
        statistics=None if axis == "none" else statistics,
        tokens=_vocabulary(given) > 0,
        classification=given.data.task == "classification",
    )


def _outputs(given: Input, source: Source, statistics: Statistics) -> int:
    """Outputs of the network, for each position where it has them: classes, or the values of a target."""
    if given.data.task == "regression":
        return math.prod((source.target_shape or ())[int(_per_position(given)) :])
    found, wanted = statistics.classes or 0, given.data.classes
    if wanted is not None and found > wanted:
        raise DataError(
            f"[data] classes = {wanted}, but the largest label in {given.data.targets!r} is {found - 1};"
            f" labels count from 0, so classes must be at least {found}."
        )
    tied = isinstance(given.network, Transformer) and given.network.tied
    # The labels of a tied network are tokens, of which the data need not have the last.
    return wanted or max(found, 2, _vocabulary(given) if tied else 0)
