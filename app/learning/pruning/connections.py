"""Single connections: which weights become zero, over all layers or within each; and patterns such as 2:4."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from app.networks.quantum import QuantumLayer

Sum = Callable[[np.ndarray], None]  # adds an int64 array over the stages, in place


def prunable(network: nn.Module, left: Collection[str]) -> dict[str, nn.Parameter]:
    """Weights of linear and convolutional layers, angles of quantum layers; without those `left` and those used twice.

    By full name.
    """
    kinds = (nn.Linear, _ConvNd)
    named: dict[str, Any] = {
        f"{name}.weight": module.weight for name, module in network.named_modules() if isinstance(module, kinds)
    }
    named |= {f"{name}.angles": m.angles for name, m in network.named_modules() if isinstance(m, QuantumLayer)}
    uses = [id(p) for module in network.modules() for p in module._parameters.values() if p is not None]
    return {name: weight for name, weight in named.items() if name not in left and uses.count(id(weight)) == 1}


def magnitudes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each weight; of an angle of a quantum layer (l, n, 2 or 3) its distance to the nearest multiple of 2 pi.

    A rotation by 2 pi changes the sign of the whole state, which no measurement sees. Collective over: none.
    """
    return {
        name: torch.remainder(weight.detach() + math.pi, 2 * math.pi).sub(math.pi).abs()
        if name.endswith(".angles")
        else weight.detach().abs()
        for name, weight in weights.items()
    }


def random_scores(weights: Mapping[str, Tensor], seed: int, title: str) -> dict[str, Tensor]:
    """Uniform numbers in (0, 1], keyed by seed, title and name; 0 where a weight is zero already."""
    found = {}
    for name, weight in weights.items():
        numbers = np.random.default_rng((seed, crc32(title.encode()), crc32(name.encode()))).random(weight.shape)
        scores = torch.from_numpy((1 - numbers).astype(np.float32)).to(weight.device)
        found[name] = scores * (weight != 0)
    return found


def lowest(scores: Mapping[str, Tensor], share: float, ranking: str, sum_: Sum) -> dict[str, Tensor]:
    """Masks as the scores, True where a weight stays: at least `share` of all, those of the lowest scores, go.

    scores: float32, not negative, of this rank's weights. Equal scores at the limit go together.
    Collective over: pipeline, through `sum_`.
    """
    if ranking == "layer":
        return {name: one > _limit({name: one}, share, lambda counts: None) for name, one in scores.items()}
    limit = _limit(scores, share, sum_)
    return {name: one > limit for name, one in scores.items()}


def two_of_four(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks in which of each four neighbouring input channels the two of the highest scores stay.

    Weights whose input channels four does not divide have no mask. Source: Mishra et al., Accelerating Sparse Deep
    Neural Networks, 2021. Collective over: none.
    """
    found = {}
    for name, one in scores.items():
        if one.shape[1] % 4:
            continue
        fours = one.movedim(1, -1).reshape(-1, 4)
        mask = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, fours.topk(2, 1).indices, True)
        shape = (one.shape[0], *one.shape[2:], one.shape[1])
        found[name] = mask.view(shape).movedim(-1, 1).contiguous()
    return found


def _limit(scores: Mapping[str, Tensor], share: float, sum_: Sum) -> float:
    """The lowest number that at least `share` of all scores do not exceed.

    Bisection of the bits: those of floats that are not negative are ordered as whole numbers are.
    """
    bits = [one.reshape(-1).view(torch.int32) for one in scores.values()]
    total = np.array([sum(one.numel() for one in bits)])
    sum_(total)
    wanted = int(np.ceil(share * total[0]))
    low, high = -1, 0x7F800000
    while high - low > 1:
        middle = (low + high) // 2
        count = np.array([sum(int((one <= middle).sum()) for one in bits)])
        sum_(count)
        low, high = (low, middle) if count[0] >= wanted else (middle, high)
    return float(np.array(high, np.int32).view(np.float32))
