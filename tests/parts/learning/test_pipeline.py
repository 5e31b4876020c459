"""A pipeline of one stage, which is how a network that is not cut trains, against plain autograd."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.errors import InputError, NumbersError
from app.learning.evaluation import evaluate
from app.learning.losses import loss
from app.learning.metrics import Classification
from app.learning.optimizers import OptimizerOptions, make
from app.learning.pipeline import Arrangement, Gradients, Pipeline
from app.learning.randomness import LayerRandomness
from app.learning.step import Sums, TrainStep
from app.networks.shapes import Boundary
from app.parallel.sums.gradients import NoSum
from app.parallel.watchdog import Watchdog
from app.plan.pipelines.schedules import SCHEDULES, make_schedule
from app.report.timers import Timers

CROSS_ENTROPY = loss("cross_entropy")
SIZES = (6, 6, 6, 5)


def one_stage(network, shape, *, bf16=False, recompute=False, schedule="1f1b"):
    return Pipeline(
        {0: network},
        CROSS_ENTROPY,
        torch.device("cpu"),
        entering={0: Boundary(shape, torch.float32)},
        bf16=bf16,
        arrangement=Arrangement(schedule=schedule, recompute=recompute),
        inbox=None,
        timers=Timers(),
    )


def batch_of(shape, sizes=SIZES, *, tokens=0, first=0, step=0):
    """A batch of microbatches with numbers from `first`; tokens: how many there are to choose from, 0: no tokens."""
    make_numbers = torch.Generator().manual_seed(5)

    def one(number, size):
        numbers = torch.randn(size, *shape, generator=make_numbers)
        inputs = torch.randint(tokens, (size, *shape), generator=make_numbers) if tokens else numbers
        targets = torch.randint(0, 3, (size,), generator=make_numbers)
        return Microbatch(first + number, size, inputs, targets, np.arange(size))

    return Batch(step, sum(sizes), tuple(one(number, size) for number, size in enumerate(sizes)))


def gradients_of(pipeline, batch, epoch=0):
    """The loss, and the gradients of all parameters."""
    reduced = []
    gradients = Gradients(pipeline, LayerRandomness(pipeline.chunks[0], 7, "test"), reduced.append)
    gradients(batch, epoch)
    assert reduced == [0]
    return gradients.loss.item(), [p.grad for p in pipeline.chunks[0].parameters()]


def plain(network, batch):
    """The same by autograd on the whole batch."""
    network = copy.deepcopy(network)
    outputs = network(torch.cat([micro.inputs for micro in batch.microbatches]))
    mean = nn.functional.cross_entropy(outputs, torch.cat([micro.targets for micro in batch.microbatches]))
    mean.backward()
    return mean.item(), [p.grad for p in network.parameters()]


def assert_same(ours, theirs, rtol=1e-5):
    assert ours[0] == pytest.approx(theirs[0], rel=rtol)
    for one, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-7)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


NETWORKS = {
    "mlp": (mlp, (8,), 0),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
        (2, 6, 6),
        0,
    ),
    "first in place": (lambda: nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(8, 3)), (8,), 0),
    "in place behind a view": (
        lambda: nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.5, inplace=True), nn.Linear(8, 3)),
        (2, 4),
        0,
    ),
    "first layers without weights": (
        lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(8, 3)),
        (2, 4),
        0,
    ),
    "tokens": (lambda: nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(20, 3)), (5,), 11),
}


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_autograd(name, schedule, recompute):
    build, shape, tokens = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    batch = batch_of(shape, tokens=tokens)
    whole = plain(network, copy.deepcopy(batch))
    assert_same(gradients_of(one_stage(network, shape, recompute=recompute, schedule=schedule), batch), whole)


def test_the_batchs_inputs_are_left_as_they_are():
    network = nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(8, 3))
    batch = batch_of((8,))
    before = copy.deepcopy(batch)
    gradients_of(one_stage(network, (8,)), batch)
    for micro, old in zip(batch.microbatches, before.microbatches, strict=True):
        assert torch.equal(micro.inputs, old.inputs)


class Overwriting(nn.Module):
    def forward(self, inputs):
        return inputs.relu_()


def test_overwritten_inputs_are_not_computed_again_from():
    network = nn.Sequential(Overwriting(), nn.Linear(8, 3))
    with pytest.raises(InputError, match="overwrites them"):
        gradients_of(one_stage(network, (8,), recompute=True, schedule="gpipe"), batch_of((8,)))
    batch = batch_of((8,))
    whole = plain(copy.deepcopy(network), batch_of((8,)))
    assert_same(gradients_of(one_stage(network, (8,), schedule="gpipe"), batch), whole)


def test_shares_of_two_replicas_add_up():
    """A replica divides by the samples of the whole batch, not by its own."""
    network, batch = mlp(), batch_of((8,))
    whole = plain(network, batch)
    loss_sum, sums = 0.0, [torch.zeros_like(p) for p in network.parameters()]
    for own in (batch.microbatches[::2], batch.microbatches[1::2]):
        own_loss, gradients = gradients_of(one_stage(copy.deepcopy(network), (8,)), batch._replace(microbatches=own))
        loss_sum += own_loss
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient
    assert_same((loss_sum, sums), whole)


def test_a_replica_without_work_reduces_all_the_same():
    network = mlp()
    found = gradients_of(one_stage(network, (8,)), batch_of((8,))._replace(microbatches=()))
    assert found == (0.0, [None] * 4)


def test_layers_without_weights_alone_train_nothing():
    network = nn.Sequential(nn.Flatten(), nn.Tanh())
    found, gradients = gradients_of(one_stage(network, (3, 1)), batch_of((3, 1)))
    assert found > 0
    assert gradients == []


@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_has_the_key_of_the_microbatch_not_of_its_place(recompute):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))

    def gradients(batch, epoch=0, schedule="1f1b"):
        copied = copy.deepcopy(network)
        pipeline = one_stage(copied, (8,), recompute=recompute, schedule=schedule)
        return gradients_of(pipeline, batch, epoch)[1]

    batch = batch_of((8,))
    whole = gradients(batch)
    torch.manual_seed(99)  # torch's own generator does not matter
    assert all(map(torch.equal, gradients(batch), whole))
    assert all(torch.allclose(*pair) for pair in zip(gradients(batch, schedule="gpipe"), whole, strict=True))
    parts = [gradients(batch._replace(microbatches=(micro,))) for micro in batch.microbatches]
    for total, *each in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(each), total)
    for other in (gradients(batch, epoch=1), gradients(batch._replace(step=1)), gradients(batch_of((8,), first=9))):
        assert not torch.equal(other[0], whole[0])


def test_computing_again_draws_the_same_dropout():
    """gpipe goes forward through all microbatches before the first goes backward."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5, inplace=True), nn.Linear(16, 3))
    found = [
        gradients_of(one_stage(copy.deepcopy(network), (8,), recompute=recompute, schedule="gpipe"), batch_of((8,)))
        for recompute in (False, True)
    ]
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))


@pytest.mark.parametrize("recompute", [False, True])
def test_batch_statistics_count_each_microbatch_once(recompute):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    batch = batch_of((8,))
    with torch.no_grad():
        means = torch.stack([network[0](micro.inputs).mean(0) for micro in batch.microbatches])
    step = train_step(network, one_stage(network, (8,), recompute=recompute, schedule="gpipe"))
    step(batch, 0, 0.0)
    torch.testing.assert_close(network[1].running_mean, 0.1 * means.mean(0))
    assert network[1].num_batches_tracked == 1


def train_step(network, pipeline, clip_norm=None):
    optimizer = make("sgd", list(network.named_parameters()), OptimizerOptions(momentum=0.0))
    randomness = LayerRandomness(network, 7, "test")
    watchdog = Watchdog(0, 1, "", Path(), 0, print, pytest.fail)
    return TrainStep(pipeline, optimizer, Sums({0: NoSum()}, (), None), randomness, clip_norm, Timers(), watchdog)


@pytest.mark.parametrize("clip_norm", [None, 0.01, 100.0])
def test_a_step_is_that_of_torch(clip_norm):
    network, batch = mlp(), batch_of((8,))
    theirs = copy.deepcopy(network)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    step = train_step(network, one_stage(network, (8,)), clip_norm)
    for _ in range(3):
        optimizer.zero_grad()
        mean = nn.functional.cross_entropy(
            theirs(torch.cat([micro.inputs for micro in batch.microbatches])),
            torch.cat([micro.targets for micro in batch.microbatches]),
        )
        mean.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm or 1e9)
        optimizer.step()
        found = step(batch, 0, 0.1)
        assert found.loss == pytest.approx(mean.item(), rel=1e-5)
        assert found.gradient_norm == (None if clip_norm is None else pytest.approx(norm.item(), rel=1e-5))
    for one, other in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_parameter_that_the_loss_does_not_see_stays():
    network = nn.Sequential(mlp())
    network[0].register_parameter("apart", nn.Parameter(torch.ones(3)))
    train_step(network, one_stage(network, (8,)))(batch_of((8,)), 0, 0.1)
    assert network[0].apart.tolist() == [1.0] * 3


def test_frozen_parameters_stay():
    network = mlp()
    network[0].requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    pipeline, watchdog = one_stage(network, (8,)), Watchdog(0, 1, "", Path(), 0, print, pytest.fail)
    step = TrainStep(
        pipeline,
        make("sgd", named, OptimizerOptions()),
        Sums({0: NoSum()}, (), None),
        LayerRandomness(network, 7, "test"),
        1.0,
        Timers(),
        watchdog,
    )
    step(batch_of((8,)), 0, 0.1)
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"2.weight", "2.bias"}


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_loss_that_is_not_finite_moves_nothing(clip_norm):
    network, batch = mlp(), batch_of((8,))
    batch.microbatches[2].inputs[0, 0] = torch.nan
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(NumbersError, match="the loss is nan in epoch 3, step 5"):
        train_step(network, one_stage(network, (8,)), clip_norm)(batch._replace(step=4), 2, 0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_bf16_keeps_weights_and_gradients_in_float32():
    network, batch = mlp(), batch_of((8,))
    found = gradients_of(one_stage(network, (8,), bf16=True), batch)
    assert {gradient.dtype for gradient in found[1]} == {torch.float32}
    expected = plain(network, batch)
    assert found[0] == pytest.approx(expected[0], rel=1e-2)
    assert found[0] != expected[0]
    for one, other in zip(found[1], expected[1], strict=True):
        assert (one - other).norm() < 0.05 * other.norm()


def test_outputs_come_in_order_and_without_dropout():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    batch = batch_of((8,))
    pipeline = one_stage(network, (8,))
    metrics = Classification(3)
    found = evaluate(pipeline, [batch, batch], metrics, lambda array: None)
    assert network.training
    network.eval()
    outputs = network(torch.cat([micro.inputs for micro in batch.microbatches]))
    targets = torch.cat([micro.targets for micro in batch.microbatches])
    assert found["samples"] == 2 * sum(SIZES)
    assert found["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((outputs.argmax(1) == targets).double().mean().item())
    seen = list(pipeline.evaluate(batch))
    torch.testing.assert_close(torch.cat([one.outputs for one in seen]), outputs)
    assert [len(one.targets) for one in seen] == list(SIZES)


def test_evaluation_of_outputs_that_are_not_finite_fails():
    network, batch = mlp(), batch_of((8,))
    batch.microbatches[1].inputs[0, 0] = torch.nan
    with pytest.raises(NumbersError):
        evaluate(one_stage(network, (8,)), [batch], Classification(3), lambda array: None)
    assert network.training


def test_every_schedule_has_the_parts_that_the_player_plays():
    """Of one stage: no messages; each microbatch forward, backward, weights; one sum at the end."""
    for name in SCHEDULES:
        (row,) = make_schedule(name, stages=1, microbatches=3)
        assert sorted(action.kind for action in row) == ["B"] * 3 + ["F"] * 3 + ["R"] + ["W"] * 3
