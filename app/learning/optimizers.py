"""Optimizers on torch's own list kernels; a torch.optim object would import for more than a second at start.

Every tensor is moved by itself (norms are per tensor), so the numbers do not depend on how layers are cut into stages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from app.errors import ArtifactError, InputError


@dataclass(frozen=True)
class OptimizerOptions:
    """Numbers of the optimizers; each uses those that belong to it."""

    momentum: float = 0.9  # sgd, lars; 0: no state
    nesterov: bool = False  # sgd
    betas: tuple[float, float] = (0.9, 0.999)  # adam, adamw, lamb
    epsilon: float = 1e-8  # adam, adamw, lamb
    weight_decay: float = 0.0
    decay_all: bool = False  # decay (and in lamb, lars adapt) biases and norms as well
    trust: float = 0.001  # lars: trust coefficient


@dataclass
class _Group:
    """Tensors treated alike: same type, same device, decayed or not."""

    decays: bool
    numbers: list[int] = field(default_factory=list)  # places in the list of all parameters
    parameters: list[Tensor] = field(default_factory=list)
    moments: list[list[Tensor]] = field(default_factory=list)  # as the optimizer's MOMENTS


class Optimizer:
    """Moves parameters along their gradients, and holds the state this takes."""

    NAME = ""
    MOMENTS: tuple[str, ...] = ()

    def __init__(self, named_parameters: Sequence[tuple[str, Tensor]], options: OptimizerOptions) -> None:
        self.options = options
        self.steps = 0
        self.names = [name for name, _ in named_parameters]
        groups: dict[tuple[bool, torch.dtype, torch.device], _Group] = {}
        for number, (_, parameter) in enumerate(named_parameters):
            # Biases and norms have one dim: pulling them to zero does not regularise (Goyal et al. 2017, section 5.3).
            decays = options.decay_all or parameter.dim() > 1
            group = groups.setdefault((decays, parameter.dtype, parameter.device), _Group(decays))
            group.numbers.append(number)
            group.parameters.append(parameter.detach())
        self._groups = list(groups.values())
        for group in self._groups:
            group.moments = [[torch.zeros_like(p) for p in group.parameters] for _ in self._moments()]

    @torch.no_grad()
    def step_(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Move every parameter by one step of size `rate`, in place.

        gradients: one per parameter, in the order given at the start; lamb and lars use them as work space.
        Collective over: none.
        """
        self.steps += 1
        for group in self._groups:
            own = [_alike(gradients[n], p) for n, p in zip(group.numbers, group.parameters, strict=True)]
            self._move_(group, own, rate)

    def state_tree(self) -> dict[str, Any]:
        """Name, number of steps, and per moment the tensors by parameter name.

        The tensors are the optimizer's own: write them before the next step. The trees of the stages of one replica
        have different parameter names and merge into the tree of the whole network.
        """
        return {"name": self.NAME, "steps": self.steps, **self._named_moments()}

    @torch.no_grad()
    def load_(self, tree: Mapping[str, Any]) -> None:
        """Take over a state; entries of parameters that other stages hold are passed over.

        Raises ArtifactError when the optimizer, a parameter's name or its shape differs.
        """
        own = self._named_moments()
        problems = self._problems(own, tree)
        if problems:
            raise ArtifactError(*problems)
        self.steps = int(tree["steps"])
        for moment, tensors in own.items():
            for name, tensor in tensors.items():
                tensor.copy_(torch.as_tensor(tree[moment][name]))

    def _problems(self, own: Mapping[str, Mapping[str, Tensor]], tree: Mapping[str, Any]) -> list[str]:
        if tree.get("name") != self.NAME:
            return [f"the optimizer's state belongs to {tree.get('name')!r}, but the input file says {self.NAME!r}"]
        problems = []
        for moment, tensors in own.items():
            stored = tree.get(moment, {})
            for name, tensor in tensors.items():
                if name not in stored:
                    problems.append(f"the state of optimizer {self.NAME} has no {moment} of parameter {name}")
                elif tuple(stored[name].shape) != tuple(tensor.shape):
                    problems.append(
                        f"the state of optimizer {self.NAME}: {moment} of parameter {name} has shape "
                        f"{tuple(stored[name].shape)}, but the parameter has {tuple(tensor.shape)}"
                    )
        return problems

    def _named_moments(self) -> dict[str, dict[str, Tensor]]:
        named: dict[str, dict[str, Tensor]] = {}
        for place, moment in enumerate(self._moments()):
            pairs = ((group.numbers, group.moments[place]) for group in self._groups)
            by_number = {n: t for numbers, tensors in pairs for n, t in zip(numbers, tensors, strict=True)}
            named[moment] = {self.names[number]: by_number[number] for number in sorted(by_number)}
        return named

    def _moments(self) -> tuple[str, ...]:
        return self.MOMENTS

    def _decay(self, group: _Group) -> float:
        return self.options.weight_decay if group.decays else 0.0

    def _move_(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        raise NotImplementedError


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD (Sutskever et al., ICML 2013)."""

    NAME = "sgd"
    MOMENTS = ("momentum",)

    def _moments(self) -> tuple[str, ...]:
        return self.MOMENTS if self.options.momentum else ()

    def _move_(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        torch._fused_sgd_(
            group.parameters,
            gradients,
            group.moments[0] if group.moments else [],
            weight_decay=self._decay(group),
            momentum=self.options.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.options.nesterov,
            maximize=False,
            is_first_step=False,
        )


class Adam(Optimizer):
    """Adam; weight decay is added to the gradient. Source: Kingma and Ba, ICLR 2015."""

    NAME = "adam"
    MOMENTS = ("first", "second")

    def _move_(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        kernel = torch._fused_adam_ if self.NAME == "adam" else torch._fused_adamw_
        first, second = group.moments
        # The kernels want the number of the step as a tensor beside each parameter; one serves all.
        steps = torch.full((), float(self.steps), device=group.parameters[0].device)
        kernel(
            group.parameters,
            gradients,
            first,
            second,
            [],
            [steps] * len(gradients),
            lr=rate,
            beta1=self.options.betas[0],
            beta2=self.options.betas[1],
            weight_decay=self._decay(group),
            eps=self.options.epsilon,
            amsgrad=False,
            maximize=False,
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient. Source: Loshchilov and Hutter, ICLR 2019."""

    NAME = "adamw"


class Lamb(Optimizer):
    """Adam's direction per tensor, as long as the tensor itself. Source: You et al., ICLR 2020, Algorithm 2.

    Tensors without decay (biases, norms) are not scaled, as in the authors' program for BERT.
    """

    NAME = "lamb"
    MOMENTS = ("first", "second")

    def _move_(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        first, second = group.moments
        beta1, beta2 = self.options.betas
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        # From here the gradients hold the direction: first / (1 - beta1^t) / (sqrt(second / (1 - beta2^t)) + epsilon).
        direction = gradients
        torch._foreach_copy_(direction, second)
        torch._foreach_div_(direction, 1 - beta2**self.steps)
        torch._foreach_sqrt_(direction)
        torch._foreach_add_(direction, self.options.epsilon)
        torch._foreach_reciprocal_(direction)
        torch._foreach_mul_(direction, first)
        torch._foreach_div_(direction, 1 - beta1**self.steps)
        if group.decays:
            torch._foreach_add_(direction, group.parameters, alpha=self.options.weight_decay)
            ratios = _ratios(torch._foreach_norm(group.parameters), torch._foreach_norm(direction))
            torch._foreach_mul_(direction, ratios)
        torch._foreach_add_(group.parameters, direction, alpha=-rate)


class Lars(Optimizer):
    """Momentum with a rate per tensor: trust |w| / (|g| + decay |w|).

    Source: You et al., arXiv:1708.03888, Algorithm 1.
    Tensors without decay (biases, norms) take the plain rate.
    """

    NAME = "lars"
    MOMENTS = ("momentum",)

    def _move_(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        if group.decays:
            decay = self.options.weight_decay
            weights = torch._foreach_norm(group.parameters)
            lengths = torch._foreach_norm(gradients)
            torch._foreach_add_(lengths, weights, alpha=decay)
            if decay:
                torch._foreach_add_(gradients, group.parameters, alpha=decay)
            torch._foreach_mul_(gradients, _ratios(weights, lengths, self.options.trust))
        torch._foreach_mul_(group.moments[0], self.options.momentum)
        torch._foreach_add_(group.moments[0], gradients, alpha=rate)
        torch._foreach_sub_(group.parameters, group.moments[0])


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.NAME: kind for kind in (Sgd, Adam, AdamW, Lamb, Lars)}


def make(name: str, named_parameters: Sequence[tuple[str, Tensor]], options: OptimizerOptions) -> Optimizer:
    """An optimizer with state of zeros. Collective over: none. Raises InputError for impossible options."""
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer = {name!r} is not known; use one of {', '.join(OPTIMIZERS)}")
    if options.nesterov and not options.momentum:
        raise InputError("nesterov = true needs a momentum above 0, but momentum = 0")
    return OPTIMIZERS[name](named_parameters, options)


@torch.no_grad()
def squared_norms(gradients: Sequence[Tensor]) -> list[float]:
    """Sum of the squares of each tensor's elements. Collective over: none.

    Stages put theirs together; the root of the sum is the global norm.
    """
    if not gradients:
        return []
    return torch.stack(torch._foreach_norm(list(gradients))).to("cpu", torch.float64).square().tolist()


@torch.no_grad()
def scale_(gradients: Sequence[Tensor], factor: float) -> None:
    """Multiply all gradients by a number, in place. Collective over: none."""
    if gradients:
        torch._foreach_mul_(list(gradients), factor)


def _alike(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient laid out in memory as its parameter; the fused kernels walk both as flat memory."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _ratios(weights: Sequence[Tensor], lengths: Sequence[Tensor], factor: float = 1.0) -> list[Tensor]:
    """factor * weight / length per tensor, or 1 where either is zero (a tensor that starts at zero must move)."""
    weight, length = torch.stack(list(weights)), torch.stack(list(lengths))
    ratio = torch.where((weight > 0) & (length > 0), factor * weight / length, 1.0)
    return list(ratio.unbind())
