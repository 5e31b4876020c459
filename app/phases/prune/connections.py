"""Cutting single connections: weights become zero and stay zero, the same on every replica."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from app.errors import InputError, NumbersError
from app.inputfile.phases import Prune
from app.learning.pruning import penalties
from app.learning.pruning.connections import lowest, magnitudes, prunable, random_scores, two_of_four
from app.learning.training import checksum
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork
from app.phases.prune.gradients import each_gradient
from app.phases.prune.result import CutResult, Place


def cut(context: Context, phase: Prune, place: Place, built: BuiltNetwork, dense: Mapping[str, float]) -> CutResult:
    """Set connections to zero by the phase's method; `dense` is not needed: a connection that is gone still counts.

    Collective over: world. Raises InputError, NumbersError.
    """
    weights = _weights(context, phase, built)
    if place.share is None:
        masks = {name: weight != 0 for name, weight in weights.items()}
    else:
        masks = _masks(context, phase, place, _scores(context, phase, place, built, weights))
    _agree(context, place, masks)
    cut_ = built.weights()
    cut_ |= {name: torch.where(mask, cut_[name], 0.0) for name, mask in masks.items()}  # +0, not -0
    names = {name for one in context.stage_group.allgather(sorted(masks)) for name in one}
    tree = built.architecture | {"sparse": sorted(names | set(built.architecture.get("sparse", ())))}
    counts = np.array([sum(m.numel() for m in masks.values()), sum(int(m.sum()) for m in masks.values())])
    _sum(context)(counts)
    row = {"connections": float(counts[0]), "connections_left": float(counts[1])}
    gone = 1 - counts[1] / counts[0]
    return CutResult(cut_, tree, row, f"{counts[1]:,} of {counts[0]:,} connections are left; {gone:.1%} are zero")


def penalty(
    context: Context, phase: Prune, place: Place, built: BuiltNetwork, dense: Mapping[str, float]
) -> Callable[[float, float], None]:
    """What moves connections to zero after each step of training. Collective over: world."""
    weights = _weights(context, phase, built)
    if phase.penalty == "lasso":
        return penalties.ConnectionL1(weights, phase.strength)
    scores = magnitudes(weights)
    return penalties.ConnectionGrowing(weights, _masks(context, phase, place, scores))


def _weights(context: Context, phase: Prune, built: BuiltNetwork) -> dict[str, torch.nn.Parameter]:
    """Those of this rank that may go. Collective over: pipeline. Raises InputError where there are none."""
    tied = {*built.ties, *built.ties.values()}
    found = prunable(built.network, tied)
    found = {name: weight for name, weight in found.items() if name.partition(".")[0] not in phase.keep_layers}
    if phase.units == "2:4":
        modules = dict(built.network.named_modules())
        others = {f"{name}.weight" for name, module in modules.items() if getattr(module, "transposed", False)}
        # of a transposed convolution the dim is that of the output channels
        found = {
            name: one
            for name, one in found.items()
            if one.shape[1] % 4 == 0 and name not in others and not name.endswith(".angles")
        }
    if not any(context.stage_group.allgather(len(found))):
        fours = " whose input channels four divides" if phase.units == "2:4" else ""
        raise InputError(
            f'[[phase]] "{phase.name}": the network has no linear or convolutional layers{fours} but those in'
            " keep_layers, so there is nothing to remove."
        ).on_every_rank()
    return found


def _scores(
    context: Context, phase: Prune, place: Place, built: BuiltNetwork, weights: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Not negative, float32, 0 for what is gone already. Collective over: world."""
    if phase.method == "random":
        return random_scores(weights, context.plan.input.run.seed, place.title)
    if phase.method == "effect":
        return _taylor(context, phase, place, built, weights)
    return magnitudes(weights)


def _taylor(
    context: Context, phase: Prune, place: Place, built: BuiltNetwork, weights: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Mean over batches of (gradient x weight)^2, as of a gate on each connection (Molchanov et al., CVPR 2019)."""
    found = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    for _ in each_gradient(context, phase, place, built):
        for name, weight in weights.items():
            if weight.grad is not None:
                found[name] += (weight.grad * weight.detach()).square()
    return found


def _masks(context: Context, phase: Prune, place: Place, scores: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if any(not torch.isfinite(one).all() for one in scores.values()):
        raise NumbersError(f"{place.title}: importances are not finite; the network has diverged.")
    if phase.units == "2:4":
        return two_of_four(scores)
    assert place.share is not None  # else what went to zero is cut
    return lowest(scores, place.share, phase.ranking, _sum(context))


def _sum(context: Context) -> Callable[[np.ndarray], None]:
    def sum_(array: np.ndarray) -> None:
        with context.watchdog.operation("counting of connections over the stages"):
            context.stage_group.sum_(array)

    return sum_


def _agree(context: Context, place: Place, masks: Mapping[str, torch.Tensor]) -> None:
    """Every replica has decided the same, or nothing is cut. Collective over: world. Raises NumbersError."""
    grid = context.plan.grid
    with context.watchdog.operation("comparison of what is cut"):
        found = context.world.allgather(checksum(masks))
    differing = [rank for rank, one in enumerate(found) if one != found[grid.stage(rank)]]
    if differing:
        raise NumbersError(
            f"{place.title}: ranks {', '.join(map(str, differing[:8]))} would cut other connections than the first"
            " replica: they computed or received other numbers; suspect their hosts' memory, or the MPI library."
        ).on_every_rank()
