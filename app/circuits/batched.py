"""Many small circuits at once, one per sample, with gradients by torch: any device, float32 or float64.

States are (N, B) complex, N = 2^n amplitudes, the batch last. Rotations about Y are real, so that a group of qubits is
one real matrix product on the amplitudes seen as 2B real columns; rotations about Z are one diagonal for all qubits,
common to all samples; the CNOTs of a layer are one permutation. Backward keeps one state a layer, and takes all angles'
gradients from there: exact, by the product rule, at the cost of two more products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from app.circuits.layered import Constants, Layered, constants


def run_layers(states: Tensor, weights: Tensor, circuit: Layered, offset: Tensor | None = None) -> Tensor:
    """The states (N, B) after all layers but the last RZ and the last CNOTs: `finish` does those.

    states: real or complex. weights (L, n, 3): phi, theta, omega. offset (N,): phases in radians that the states have
    before the first layer. Collective over: none.
    """
    out: Tensor = _Layers.apply(states, weights, circuit, offset)
    return out


def finish(states: Tensor, weights: Tensor, circuit: Layered) -> Tensor:
    """The last layer's RZ and CNOTs, which `run_layers` leaves out. Collective over: none."""
    known = constants(circuit, weights.dtype, weights.device)
    angles = -0.5 * (weights[-1, :, 2] @ known.signs)
    states = states * torch.polar(torch.ones_like(angles), angles).unsqueeze(1)
    source = known.sources[-1]
    return states if source is None else states.index_select(0, source)


def product_states(angles: Tensor) -> Tensor:
    """RY(angle)|0> on every qubit: angles (n, B) -> (N, B) real. Collective over: none."""
    out: Tensor = _Product.apply(angles)
    return out


def weighted_probabilities(states: Tensor, rows: Tensor) -> Tensor:
    """Sums of probabilities: states (N, B) complex, rows (m, N) real -> (B, m). Collective over: none."""
    out: Tensor = _Probabilities.apply(states, rows)
    return out


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weights: Tensor, circuit: Layered, offset: Tensor | None) -> Tensor:
        known = constants(circuit, weights.dtype, weights.device)
        matrices = _rotations(weights[:, :, 1], known.groups)
        turns = _diagonals(weights, known, offset)
        used = _used(weights[:, :, 1], known.groups)
        kept = [states]
        for layer in range(circuit.layers):
            source = known.sources[layer - 1] if layer else None
            if source is not None:
                states = states.index_select(0, source)
            # real states become complex here
            states = states * turns[layer].unsqueeze(1)
            for number in used[layer]:
                states = _on_group(states, matrices[number][layer], known.groups, number)
            kept.append(states)
        ctx.save_for_backward(turns, *matrices, *kept)
        ctx.known, ctx.used, ctx.needs_states = known, used, ctx.needs_input_grad[0]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        known: Constants = ctx.known
        turns, *saved = ctx.saved_tensors
        back = turns.conj().resolve_conj()
        groups = known.groups
        matrices, kept = saved[: len(groups)], saved[len(groups) :]
        thetas, before = [], []
        for layer in reversed(range(len(turns))):
            thetas.append(_theta_gradients(gradient, kept[layer + 1], known))
            for number in ctx.used[layer]:
                gradient = _on_group(gradient, matrices[number][layer].T, groups, number)
            gradient = gradient * back[layer].unsqueeze(1)
            target = known.targets[layer - 1] if layer else None
            if target is not None:
                gradient = gradient.index_select(0, target)
            before.append(_turned(gradient, kept[layer]))
        weights = _weight_gradients(torch.stack(thetas[::-1]), torch.stack(before[::-1]), known)
        return (gradient if kept[0].is_complex() else gradient.real) if ctx.needs_states else None, weights, None, None


def _rotations(theta: Tensor, groups: Sequence[int]) -> list[Tensor]:
    """RY of all layers by group, as Kronecker products: theta (L, n) -> (L, 2^k, 2^k) each."""
    half = 0.5 * theta
    cos, sin = half.cos(), half.sin()
    single = torch.stack([cos, -sin, sin, cos], -1).view(*theta.shape, 2, 2)
    found, top = [], theta.shape[1]
    for size in groups:
        whole = single[:, top - 1]
        for qubit in range(top - 2, top - size - 1, -1):
            side = 2 * whole.shape[1]
            whole = (whole[:, :, None, :, None] * single[:, qubit, None, :, None, :]).reshape(-1, side, side)
        found.append(whole)
        top -= size
    return found


def _used(theta: Tensor, groups: Sequence[int]) -> list[list[int]]:
    """By layer the groups with a rotation that is not by 0; elsewhere than on a CPU looking would cost more."""
    if theta.device.type != "cpu":
        return [list(range(len(groups)))] * len(theta)
    found, top = [], theta.shape[1]
    for size in groups:
        found.append((theta[:, top - size : top] != 0).any(1).tolist())
        top -= size
    return [[number for number in range(len(groups)) if found[number][layer]] for layer in range(len(theta))]


def _diagonals(weights: Tensor, known: Constants, offset: Tensor | None) -> Tensor:
    """(L, N) complex: the RZ before each layer's RY, merged with those that end the layer before."""
    angles = -0.5 * (weights[:, :, 0] @ known.signs)
    ends = -0.5 * (weights[:-1, :, 2] @ known.signs)
    for layer, end in enumerate(ends):
        source = known.sources[layer]
        angles[layer + 1] += end if source is None else end.index_select(0, source)
    if offset is not None:
        angles[0] += offset
    return torch.polar(torch.ones_like(angles), angles)


def _on_group(states: Tensor, matrix: Tensor, groups: Sequence[int], number: int) -> Tensor:
    """A real matrix (2^k, 2^k) on a group's qubits of complex states (N, B)."""
    left = 1 << sum(groups[:number])
    real = torch.view_as_real(states).view(left, len(matrix), -1)
    out = matrix @ real[0] if left == 1 else torch.bmm(matrix.expand(left, -1, -1), real)
    return torch.view_as_complex(out.view(*states.shape, 2))


def _theta_gradients(gradient: Tensor, states: Tensor, known: Constants) -> Tensor:
    """(n,), by qubit, of the RYs after which the states are."""
    found: list[Tensor] = []
    for number, size in enumerate(known.groups):
        left = 1 << sum(known.groups[:number])
        ours = torch.view_as_real(gradient).view(left, 1 << size, -1)
        theirs = torch.view_as_real(states).view(left, 1 << size, -1)
        products = torch.bmm(ours, theirs.transpose(1, 2)).sum(0)
        found.append(products.view(-1) @ known.generators[number])
    return torch.cat(found[::-1])


def _turned(gradient: Tensor, states: Tensor) -> Tensor:
    """(N,): the loss's derivative by a phase of each amplitude, summed over the samples."""
    if not states.is_complex():
        return (gradient.imag * states).sum(1)
    return torch.linalg.vecdot(states, gradient, dim=1).imag


def _weight_gradients(thetas: Tensor, before: Tensor, known: Constants) -> Tensor:
    """(L, n, 3) from those by theta (L, n), and by the phases of the amplitudes before each layer's CNOTs (L, N)."""
    after = [before[0]]
    for layer in range(1, len(before)):
        source = known.sources[layer - 1]
        after.append(before[layer] if source is None else before[layer].index_select(0, source))
    phi = -0.5 * (torch.stack(after) @ known.signs.T)
    omega = -0.5 * (before[1:] @ known.signs.T)
    return torch.stack([phi, thetas, torch.cat([omega, torch.zeros_like(thetas[:1])])], -1)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor) -> Tensor:
        columns = torch.stack([(0.5 * angles).cos(), (0.5 * angles).sin()], 1)
        kept = [columns[0]]
        for column in columns[1:]:
            kept.append((column.unsqueeze(1) * kept[-1]).view(-1, angles.shape[1]))
        ctx.save_for_backward(columns, *kept[:-1])
        return kept[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        columns, *kept = ctx.saved_tensors
        found = []
        for qubit in range(len(columns) - 1, -1, -1):
            halves = gradient.view(2, -1, gradient.shape[1])
            low, high = (halves * kept[qubit - 1]).sum(1) if qubit else halves[:, 0]
            cos, sin = columns[qubit]
            found.append(0.5 * (cos * high - sin * low))
            gradient = torch.addcmul(halves[0] * cos, halves[1], sin)
        return torch.stack(found[::-1])


class _Probabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(states, rows)
        squares = torch.view_as_real(states).square().view(len(states), -1)
        return (rows @ squares).view(len(rows), -1, 2).sum(-1).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        states, rows = ctx.saved_tensors
        weights = (2 * rows).T @ gradient.T
        return torch.view_as_complex(torch.view_as_real(states) * weights.unsqueeze(-1)), None
