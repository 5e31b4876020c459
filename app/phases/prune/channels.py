"""Cutting channels, neurons and heads: layers get smaller, the same on every rank."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from app.errors import InputError, NumbersError
from app.inputfile.phases import Prune
from app.learning.device import multiple_of_widths
from app.learning.losses import loss
from app.learning.pruning import penalties, scores
from app.learning.pruning.groups import Found, find_groups
from app.learning.pruning.scan import from_rises, scan
from app.learning.pruning.scores import Scores
from app.learning.pruning.units import UnitGroup, cut_shapes
from app.learning.pruning.units import cut as cut_weights
from app.networks import build
from app.phases.context import Context
from app.phases.context.fitting import nested
from app.phases.context.networks import BuiltNetwork
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import read_batches, sum_of
from app.phases.prune import description
from app.phases.prune.gradients import each_gradient
from app.phases.prune.result import CutResult, Place
from app.plan import pruning
from app.plan.plan import LOSSES_OF
from app.plan.show import operations_text
from app.report.progress import Progress
from app.storage.tree import Tree


def cut(context: Context, phase: Prune, place: Place, built: BuiltNetwork, dense: Mapping[str, float]) -> CutResult:
    """Remove units of the network by the phase's method. dense: what it cost before the first cut; {}: what it costs.

    Collective over: world. Raises InputError, NumbersError.
    """
    work = _Work(context, phase, place, built)
    removed = work.zeros() if _what_is_zero(phase, place) else work.choose(work.scores(), dense)
    work.agree(removed)
    if not any(removed):
        context.log.warn(f"{place.title}: nothing is cut; give a larger strength, or more penalty_epochs")
    groups = list(zip(work.groups, removed, strict=True))
    shapes = cut_shapes(work.found.shapes, groups)
    tree = built.architecture | {"shapes": {**built.architecture.get("shapes", {}), **_plain(shapes)}}
    before, after = work.totals(), work.totals(removed)
    dense = dense or {f"dense_{name}": float(value) for name, value in before._asdict().items()}
    work.keep_decision(removed)
    row = {**dense, **{name: float(value) for name, value in after._asdict().items()}}
    weights = cut_weights(built.weights(), groups)
    return CutResult(weights, tree, row, _sentence(phase, before, after, dense))


def penalty(
    context: Context, phase: Prune, place: Place, built: BuiltNetwork, dense: Mapping[str, float]
) -> Callable[[float, float], None]:
    """What moves units to zero after each step of training. Collective over: world, and pipeline at each call."""
    work = _Work(context, phase, place, built)
    tensors, gather = built.weights(), work.gather
    if phase.penalty == "lasso":
        return penalties.Lasso(work.groups, tensors, phase.strength, gather)
    if phase.penalty == "scale":
        work.refuse_without_scales()
        return penalties.ScaleL1(work.groups, tensors, phase.strength)
    removed = work.choose(scores.magnitude(work.groups, tensors, phase.norm, gather), dense)
    work.agree(removed)
    return penalties.Growing(list(zip(work.groups, removed, strict=True)), tensors)


class _Work:
    """The groups of a network and what is done with them on one rank."""

    def __init__(self, context: Context, phase: Prune, place: Place, built: BuiltNetwork) -> None:
        self.context, self.phase, self.place, self.built = context, phase, place, built
        self.found = context.together(self._find)
        self.groups = tuple(group for group in self.found.groups if not _stays(group, phase.keep_layers))
        if self.found.refused:
            context.log.warn(
                f"{place.title}: {', '.join(self.found.refused[:5])} cannot be cut without changing more than sizes;"
                " they stay as they are"
            )
        if not self.groups:
            raise InputError(
                f'[[phase]] "{phase.name}": the network has no units that can be removed; layers that give its outputs'
                ' stay, and keep_layers name others. Single connections could go: units = "connections".'
            ).on_every_rank()
        round_to = multiple_of_widths(context.device) if phase.round_to == "auto" else phase.round_to
        self.plan = [description.planned(group, self.found, round_to, phase.most) for group in self.groups]
        self.sizes = description.sizes(self.found)

    def gather(self, value: Any) -> list[Any]:
        """Every stage's value. Collective over: pipeline."""
        with self.context.watchdog.operation("gathering of importances over the stages"):
            return self.context.stage_group.allgather(value)

    def scores(self) -> Scores:
        """Of each unit, by the phase's method. Collective over: world. Raises NumbersError."""
        phase = self.phase
        if phase.method == "random":
            return scores.at_random(self.groups, self.context.plan.input.run.seed, self.place.title)
        if phase.method == "sparsity":
            found = self._penalised()
        elif phase.method == "effect":
            found = self._taylor() if phase.measure == "taylor" else self._scan()
            found = [one / cost for one, cost in zip(found, self._costs_of_units(), strict=True)]
        else:
            found = self._magnitudes()
        if not scores.finite(found):
            raise NumbersError(
                f"{self.place.title}: importances are not finite; the network has diverged."
            ).on_every_rank()
        return found

    def choose(self, found: Scores, dense: Mapping[str, float]) -> list[list[int]]:
        """The units that go, by group. Raises InputError on every rank."""
        target = self.phase.target
        whole = dense.get(f"dense_{target}", getattr(self.totals(), target))
        assert self.place.share is not None  # else what went to zero is cut
        limit = (1 - self.place.share) * whole
        pairs = list(zip(self.plan, found, strict=True))
        plan = [group._replace(fewest=group.units) if np.isinf(one).all() else group for group, one in pairs]
        as_lists = [one.tolist() for one in found]
        try:
            return pruning.choose(plan, self.sizes, as_lists, target=target, limit=limit, ranking=self.phase.ranking)
        except InputError as error:
            problems = (f'[[phase]] "{self.phase.name}": {problem}' for problem in error.problems)
            raise InputError(*problems).on_every_rank() from None

    def zeros(self) -> list[list[int]]:
        """The units that went to zero. Collective over: pipeline. Raises InputError where nothing else is left."""
        found = self._penalised()
        empty = [group.name for group, one in zip(self.groups, found, strict=True) if not (one > 0).any()]
        if empty:
            raise InputError(
                f'[[phase]] "{self.phase.name}": strength = {self.phase.strength} drove every unit of'
                f" {', '.join(empty[:3])} to zero; give less, or fewer penalty_epochs."
            ).on_every_rank()
        return pruning.zeros(self.plan, [one.tolist() for one in found])

    def totals(self, removed: Sequence[Sequence[int]] | None = None) -> pruning.Totals:
        """What the network costs without these units."""
        gone = [len(units) for units in removed] if removed is not None else [0] * len(self.plan)
        kept = [group.units - count for group, count in zip(self.plan, gone, strict=True)]
        return pruning.totals(self.plan, self.sizes, kept)

    def agree(self, removed: Sequence[Sequence[int]]) -> None:
        """Every rank has decided the same, or nothing is cut. Collective over: world. Raises NumbersError."""
        decision = repr([(group.name, list(units)) for group, units in zip(self.groups, removed, strict=True)])
        own = hashlib.sha256(decision.encode()).hexdigest()
        with self.context.watchdog.operation("comparison of what is cut"):
            found = self.context.world.allgather(own)
        differing = [rank for rank, one in enumerate(found) if one != found[0]]
        if differing:
            raise NumbersError(
                f"{self.place.title}: ranks {', '.join(map(str, differing[:8]))} would cut other units than rank 0:"
                " they computed or received other numbers; suspect their hosts' memory, or the MPI library."
            ).on_every_rank()

    def keep_decision(self, removed: Sequence[Sequence[int]]) -> None:
        """Into run.h5: for each group the units that stay, counted in the network before this cut."""
        if not self.context.speaks:
            return
        kept: Tree = {
            group.name: np.setdiff1d(np.arange(group.units), np.array(units, np.int64))
            for group, units in zip(self.groups, removed, strict=True)
        }
        self._update({"kept": kept})

    def refuse_without_scales(self) -> None:
        """L1 on scale factors wants normalisations. Collective over: pipeline. Raises InputError."""
        if all(np.isinf(one).all() for one in scores.scales(self.groups, self.built.weights(), self.gather)):
            raise InputError(
                f'[[phase]] "{self.phase.name}": penalty = "scale" wants normalisation layers beside the units, and'
                ' this network has none; give penalty = "lasso".'
            ).on_every_rank()

    def _find(self) -> Found:
        data = self.context.data
        dtype = torch.int64 if data.transform.tokens else torch.float32
        parameters = sum(cost.parameters for cost in self.built.cut.costs)
        return find_groups(build.from_architecture(self.built.architecture), data.sample_shape, dtype, parameters)

    def _penalised(self) -> Scores:
        """What the penalty makes small: scale factors, or the root mean square of each unit's numbers.

        Collective over: pipeline.
        """
        if self.phase.penalty == "scale":
            return scores.scales(self.groups, self.built.weights(), self.gather)
        found = scores.sizes(self.groups, self.built.weights(), self.gather)
        return [
            one / np.sqrt(description.numbers(group, self.found)) for group, one in zip(self.groups, found, strict=True)
        ]

    def _costs_of_units(self) -> list[float]:
        """What the removal of one unit saves of the target, by group; at least 1."""
        whole = getattr(self.totals(), self.phase.target)
        costs = []
        for number in range(len(self.plan)):
            one_less = [[0] if group == number else [] for group in range(len(self.plan))]
            costs.append(max(1.0, float(whole - getattr(self.totals(one_less), self.phase.target))))
        return costs

    def _taylor(self) -> Scores:
        """Gradients of some training batches, summed over the replicas. Collective over: world."""
        context, phase, taylor = self.context, self.phase, scores.Taylor(self.groups)
        wanted = {member.tensor for group in self.groups for member in group.members if member.enters}
        named = dict(self.built.network.named_parameters(remove_duplicate=False))
        own = {name: parameter for name, parameter in named.items() if name in wanted}
        for _ in each_gradient(context, phase, self.place, self.built):
            gradients = {name: p.grad for name, p in own.items() if p.grad is not None}
            taylor.add_({name: p.detach() for name, p in own.items()}, gradients)
        return taylor.scores(self.gather)

    def _scan(self) -> Scores:
        """What removing a share of each group does to the validation loss. Collective over: world."""
        context, phase = self.context, self.phase
        tensors = self.built.weights()
        orders = [np.argsort(one, kind="stable") for one in self._magnitudes()]
        pipeline = make_pipeline(context, self.built, loss(LOSSES_OF[context.plan.input.data.task][0]))
        samples = context.data.split.count("validation")
        batches = -(-samples // phase.batch_size)
        every_s = context.plan.input.run.log_seconds
        begun = time.monotonic()
        with Progress(context.log, f"{self.place.title} scan", steps=batches, every_s=every_s) as progress:
            rises = scan(
                pipeline,
                read_batches(context, phase, "validation"),
                self.groups,
                orders,
                phase.levels,
                tensors,
                sum_of(context, "sum of what removing costs"),
                lambda batch: progress.update(0, batch.step, batch.size),
            )
        pipeline.close()
        with context.watchdog.operation("gathering of the scan's times"):
            seconds = max(context.world.allgather(time.monotonic() - begun))
        context.log.info(f"{self.place.title}: what removing costs was measured in {seconds:.1f} s")
        table: Tree = {group.name: one for group, one in zip(self.groups, rises, strict=True)}
        self._update({"scan_seconds": seconds, "rise_of_loss": table})
        return from_rises(self.groups, rises, orders, phase.levels)

    def _magnitudes(self) -> Scores:
        return scores.magnitude(self.groups, self.built.weights(), self.phase.norm, self.gather)

    def _update(self, table: Tree) -> None:
        context = self.context
        if context.speaks:
            context.results.update(nested(self.place.table, table), context.provenance_of(self.phase.name))


def _what_is_zero(phase: Prune, place: Place) -> bool:
    return phase.method == "sparsity" and (place.share is None or phase.penalty == "growing")


def _stays(group: UnitGroup, layers: Sequence[str]) -> bool:
    """Whether the units come out of a layer that is to be kept."""
    return any(member.tensor.partition(".")[0] in layers for member in group.members if not member.enters)


def _plain(shapes: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    return {name: list(shape) for name, shape in shapes.items()}


def _sentence(phase: Prune, before: pruning.Totals, after: pruning.Totals, dense: Mapping[str, float]) -> str:
    gone = 1 - getattr(after, phase.target) / dense[f"dense_{phase.target}"]
    return (
        f"operations {operations_text(before.operations)} -> {operations_text(after.operations)}, parameters"
        f" {before.parameters:,} -> {after.parameters:,}, units {before.units:,} -> {after.units:,};"
        f" {gone:.1%} of the {phase.target} are gone"
    )
