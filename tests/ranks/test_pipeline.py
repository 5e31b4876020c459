"""Pipelines over all ranks against plain torch on one: gradients, steps, evaluation."""

import copy
import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.learning.evaluation import evaluate
from app.learning.inbox import Inbox
from app.learning.losses import loss
from app.learning.metrics import Classification
from app.learning.optimizers import OptimizerOptions, make
from app.learning.pipeline import Arrangement, Gradients, Pipeline, precision
from app.learning.randomness import LayerRandomness
from app.learning.step import Sums, Tie, TrainStep
from app.networks.shapes import Boundary
from app.parallel import world
from app.parallel.gradients import NoSum, choose
from app.parallel.links import Links
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers

pytestmark = pytest.mark.mpi

CPU = torch.device("cpu")
CROSS_ENTROPY = loss("cross_entropy")
SIZES = {1: [5], 2: [6, 4], 5: [6, 6, 6, 6, 2], 8: [6] * 7 + [5]}  # of microbatches, by their number
SCHEDULES = [("1f1b", 1), ("gpipe", 1), ("interleaved", 1), ("interleaved", 2)]  # and chunks a stage


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def here():
    return world.start()


@pytest.fixture(scope="module")
def group(here):
    return here.group(0, here.rank)


class Mean(nn.Module):
    """The mean over the positions (M, T, F); waits as long as `seconds` says, to be late in a pipeline."""

    def __init__(self, seconds=lambda: 0.0):
        super().__init__()
        self.seconds = seconds

    def forward(self, inputs):
        time.sleep(self.seconds())
        return inputs.mean(1)


class Late(nn.Module):
    """Hands on what it gets, after a while."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, inputs):
        time.sleep(self.seconds())
        return inputs.view_as(inputs)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)

    def forward(self, inputs):
        return torch.relu(inputs + self.norm(self.conv(inputs)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def sequences():
    """In-place layers and views begin chunks; 64 positions a sample, so that weights are formed in several groups."""
    return [
        *(nn.Linear(8, 16), nn.Linear(16, 16), nn.LeakyReLU(0.1, inplace=True), nn.Linear(16, 12)),
        *(nn.Unflatten(2, (3, 4)), nn.LeakyReLU(0.1, inplace=True), nn.Flatten(2)),
        nn.Sequential(nn.Linear(12, 3), Mean()),
    ]


def images():
    return [
        *(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ELU(inplace=True), nn.Conv2d(4, 6, 3, stride=2)),
        *(nn.Tanh(), Block(6), nn.Flatten(), nn.Linear(54, 3)),
    ]


def tokens():
    """Token numbers cross the first cut where chunks are short."""
    return [
        *(nn.Identity(), nn.Embedding(11, 8), nn.Linear(8, 8), nn.LeakyReLU(0.1, inplace=True), nn.Linear(8, 8)),
        *(nn.Flatten(), nn.Linear(40, 8), nn.Linear(8, 3)),
    ]


def without_weights_first():
    return [
        *(nn.Flatten(), nn.LeakyReLU(0.1, inplace=True), nn.Softplus(), nn.Flatten()),
        *(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3), nn.LeakyReLU(0.1, inplace=True)),
    ]


def complex_numbers():
    return [
        *(nn.Linear(6, 8), Apply(lambda x: torch.complex(x, x.sin())), Apply(torch.conj), Apply(lambda z: z * z)),
        *(nn.Identity(), Apply(torch.conj), Apply(lambda z: z.imag), nn.Linear(8, 3)),
    ]


class Case(NamedTuple):
    """The layers, at least eight; the shape of a sample; the number of tokens, 0 where inputs are numbers."""

    layers: object
    shape: tuple[int, ...]
    tokens: int = 0


CASES = {
    "sequences": Case(sequences, (64, 8)),
    "images": Case(images, (2, 7, 8)),
    "tokens": Case(tokens, (5,), 11),
    "without weights first": Case(without_weights_first, (2, 5)),
    "complex numbers": Case(complex_numbers, (6,)),
}


def built(case):
    torch.manual_seed(0)
    return nn.Sequential(*case.layers())


def batch_of(case, sizes, *, step=0, replica=0, replicas=1):
    """A replica's share of the batch; the microbatches are numbered over all replicas."""
    make_numbers = torch.Generator().manual_seed(5 + step)

    def one(number, size):
        numbers = torch.randn(size, *case.shape, generator=make_numbers)
        inputs = torch.randint(case.tokens, numbers.shape, generator=make_numbers) if case.tokens else numbers
        targets = torch.randint(3, (size,), generator=make_numbers)
        return Microbatch(number, size, inputs, targets, np.arange(size))

    whole = [one(number, size) for number, size in enumerate(sizes)]
    return Batch(step, sum(sizes), tuple(whole[replica::replicas]))


def seen_by(batch, arrangement):
    """What a stage reads of a batch: nobody but the first has inputs, nobody but the last targets."""
    first, last = arrangement.stage == 0, arrangement.stage == arrangement.stages - 1

    def cut(micro):
        return micro._replace(inputs=micro.inputs if first else None, targets=micro.targets if last else None)

    return batch._replace(microbatches=tuple(cut(micro) for micro in batch.microbatches))


class Staged(NamedTuple):
    """This rank's part of a network: its pipeline, its layers with the names and numbers of the whole network's."""

    pipeline: Pipeline
    numbers: list[int]
    network: nn.Sequential

    def close(self):
        self.pipeline.close()

    def named(self):
        """The parameters of this rank, as the whole network calls them."""
        places = (name.partition(".") for name, _ in self.network.named_parameters())
        names = [f"{self.numbers[int(place)]}.{rest}" for place, _, rest in places]
        return list(zip(names, self.network.parameters(), strict=True))


def staged(group, network, case, *, schedule="1f1b", chunks=1, recompute=False, bf16=False):
    """The network cut evenly over the ranks of the group, as one pipeline. Collective over: the group."""
    arrangement = Arrangement(group.rank, group.size, chunks if group.size > 1 else 1, schedule, recompute)
    count = arrangement.stages * arrangement.chunks
    cut = [range(len(network) * v // count, len(network) * (v + 1) // count) for v in range(count)]
    entering, values = {}, torch.zeros(2, *case.shape, dtype=torch.int64 if case.tokens else torch.float32)
    with torch.no_grad(), precision(CPU, bf16), torch.random.fork_rng([]):
        for number, layers in enumerate(cut):
            entering[number] = Boundary(tuple(values.shape[1:]), values.dtype)
            for layer in network[layers.start : layers.stop]:
                values = copy.deepcopy(layer).eval()(values)
    own = {number: network[cut[number].start : cut[number].stop] for number in arrangement.held}
    watchdog = Watchdog(group.rank, group.size, "", Path(), 0, print, pytest.fail)
    inbox = Inbox(Links(group, CPU), entering, group.size, watchdog) if group.size > 1 else None
    pipeline = Pipeline(
        own, CROSS_ENTROPY, CPU, entering=entering, bf16=bf16, arrangement=arrangement, inbox=inbox, timers=Timers()
    )
    numbers = [number for chunk in arrangement.held for number in cut[chunk]]
    return Staged(pipeline, numbers, nn.Sequential(*(network[number] for number in numbers)))


def gradients_of(part, batch, *, spy=None):
    """This replica's share of the loss, on every rank, and the gradients of this rank's parameters by name."""
    for _, parameter in part.named():
        parameter.grad = None
    reduced = []
    randomness = LayerRandomness(part.network, 7, "test", part.numbers)
    play = Gradients(part.pipeline, randomness, reduced.append)
    if spy is not None:
        early = play._form_early
        play._form_early = lambda: spy(early())
    play(seen_by(batch, part.pipeline.arrangement), 0)
    assert sorted(reduced) == sorted(part.pipeline.chunks)
    return play.loss.item(), {name: parameter.grad for name, parameter in part.named()}


def plain(network, batch, *, bf16=False):
    """The same by autograd alone, microbatch by microbatch."""
    network, total = copy.deepcopy(network), 0.0
    for micro in batch.microbatches:
        with precision(CPU, bf16):
            outputs = network(micro.inputs.clone())
        share = nn.functional.cross_entropy(outputs.float(), micro.targets, reduction="sum") / batch.size
        share.backward()
        total += share.item()
    return total, {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_same(group, ours, theirs, rtol=1e-5):
    """Each gradient to a relative error, and the loss on the last stage."""
    if group.rank == group.size - 1:
        assert ours[0] == pytest.approx(theirs[0], rel=rtol)
    for name, gradient in ours[1].items():
        error = (gradient - theirs[1][name]).norm() / theirs[1][name].norm()
        assert error <= rtol, f"{name}: {error:.1e}"
    names = {name for part in group.allgather(list(ours[1])) for name in part}
    assert names == theirs[1].keys()


@pytest.fixture(params=SCHEDULES, ids=lambda given: f"{given[0]} x {given[1]}")
def scheduled(request, group):
    if request.param[1] > 1 and group.size == 1:
        pytest.skip("one stage has one chunk")
    return {"schedule": request.param[0], "chunks": request.param[1]}


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_one_rank(group, scheduled, name, recompute):
    case = CASES[name]
    network = built(case)
    part = staged(group, copy.deepcopy(network), case, recompute=recompute, **scheduled)
    for number, sizes in enumerate([*SIZES.values(), SIZES[2]]):  # one pipeline plays all sorts of batches
        batch = batch_of(case, sizes, step=number)
        assert_same(group, gradients_of(part, batch), plain(network, batch))
    part.close()


def test_a_batch_without_work_for_this_replica(group, scheduled):
    part = staged(group, built(CASES["sequences"]), CASES["sequences"], **scheduled)
    found = gradients_of(part, batch_of(CASES["sequences"], [4])._replace(microbatches=()))
    assert found[0] == 0
    assert set(found[1].values()) <= {None}
    part.close()


@pytest.mark.parametrize("name", ["sequences", "images", "tokens"])
def test_bf16(group, scheduled, name):
    """What passes between stages is in bfloat16; weights' gradients are left to autograd."""
    case = CASES[name]
    network = built(case)
    part = staged(group, copy.deepcopy(network), case, bf16=True, **scheduled)
    batch = batch_of(case, SIZES[5])
    found = gradients_of(part, batch)
    assert {gradient.dtype for gradient in found[1].values()} <= {torch.float32}
    assert_same(group, found, plain(network, batch, bf16=True), rtol=1e-3)
    assert group.size < 3 or torch.bfloat16 in {boundary.dtype for boundary in part.pipeline.entering.values()}
    part.close()


def dawdling(seconds):
    """The sequences with layers that are late by as much as `seconds()` says; they draw from nothing of torch's."""
    layers = sequences()
    layers[3] = nn.Sequential(layers[3], Late(seconds))
    layers[7] = nn.Sequential(layers[7][0], Mean(seconds))
    torch.manual_seed(0)
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.3)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "computed again"])
def test_who_is_late_does_not_change_a_bit(group, scheduled, recompute):
    """Weights formed early, while a message is on its way, are formed from the same microbatches in the same order."""
    chance, upto = random.Random(), [0.0]
    network = dawdling(lambda: chance.random() * upto[0])
    part = staged(group, network, CASES["sequences"], recompute=recompute, **scheduled)
    batch, early = batch_of(CASES["sequences"], SIZES[8]), []

    def spy(formed):
        early.append(formed)
        return formed

    bits = []
    for upto[0] in (0.0, 0.002, 0.004):
        found = gradients_of(part, batch, spy=spy)
        bits.append((found[0], {name: gradient.numpy().tobytes() for name, gradient in found[1].items()}))
    assert bits[1] == bits[0]
    assert bits[2] == bits[0]
    assert group.size == 1 or any(any(own) for own in group.allgather(early))
    part.close()


def test_schedules_form_the_same_sums(group):
    """Backwards of a chunk run in ascending order of microbatches under all of them."""
    batch, bits = batch_of(CASES["images"], SIZES[8]), []
    for schedule in ("1f1b", "gpipe", "interleaved"):
        part = staged(group, built(CASES["images"]), CASES["images"], schedule=schedule)
        found = gradients_of(part, batch)
        bits.append({name: gradient.numpy().tobytes() for name, gradient in found[1].items()})
        part.close()
    assert bits[1] == bits[0]
    assert bits[2] == bits[0]


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_one_rank(group, scheduled, name):
    case = CASES[name]
    network = built(case)
    part = staged(group, copy.deepcopy(network), case, **scheduled)
    batches = [batch_of(case, sizes, step=number) for number, sizes in enumerate([*SIZES.values(), []]) if sizes]
    seen = [seen_by(batch, part.pipeline.arrangement) for batch in batches]
    with torch.no_grad():
        for batch, own in zip(batches, seen, strict=True):
            found = [one.outputs for one in part.pipeline.evaluate(own)]
            assert len(found) == (len(batch.microbatches) if part.pipeline.last else 0)
            for outputs, micro in zip(found, batch.microbatches, strict=False):
                torch.testing.assert_close(outputs, network(micro.inputs.clone()), rtol=1e-5, atol=1e-6)
    part.close()


def test_evaluation_and_training_take_turns(group, scheduled):
    case = CASES["images"]
    network = built(case)
    part = staged(group, copy.deepcopy(network), case, **scheduled)
    batches = [batch_of(case, sizes) for sizes in SIZES.values()]
    seen = [seen_by(batch, part.pipeline.arrangement) for batch in batches]
    found = []
    for _ in range(2):
        found.append(evaluate(part.pipeline, seen, Classification(3), group.sum_))
        assert_same(group, gradients_of(part, batches[2]), plain(network, batches[2]))
    with torch.no_grad():
        micros = [micro for batch in batches for micro in batch.microbatches]
        outputs = network(torch.cat([micro.inputs for micro in micros]))
        targets = torch.cat([micro.targets for micro in micros])
    for numbers in found:
        assert numbers["samples"] == len(targets)
        assert numbers["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-5)
        assert numbers["accuracy"] == pytest.approx((outputs.argmax(1) == targets).double().mean().item())
    assert len(set(group.allgather(found[0]["loss"]))) == 1
    part.close()


class Setting(NamedTuple):
    """A pipeline with all that a step needs. replica, replicas: which of how many this pipeline is."""

    part: Staged
    step: TrainStep
    replica: int = 0
    replicas: int = 1

    def play(self, case, sizes, number):
        batch = batch_of(case, sizes, step=number, replica=self.replica, replicas=self.replicas)
        return self.step(seen_by(batch, self.part.pipeline.arrangement), 0, 0.1)


def setting(part, *, data=None, stages=None, ties=(), clip_norm=1.0, replica=0):
    """data: the ranks with the same stage, over which gradients are summed."""
    engines = {
        number: choose(data, wanted="mpi", device_type="cpu", hosts=1) if data else NoSum()
        for number in part.pipeline.chunks
    }
    step = TrainStep(
        part.pipeline,
        make("sgd", part.named(), OptimizerOptions()),
        Sums(engines, ties, stages),
        LayerRandomness(part.network, 7, "test", part.numbers),
        clip_norm,
        Timers(),
        Watchdog(0, 1, "", Path(), 0, print, pytest.fail),
    )
    return Setting(part, step, replica, data.size if data else 1)


def alone(here, network, case, **options):
    """The same on one rank, that of a pipeline of one stage; every rank does it for itself."""
    return setting(staged(here.group(here.rank, 0), network, case), **options)


def moody():
    """Layers that draw, layers that keep statistics."""
    return [
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Conv2d(4, 4, 3)),
        *(nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(4 * 3 * 4, 3)),
    ]


MOODY = Case(moody, (2, 7, 8))


def assert_same_steps(ours, theirs, case, counts):
    """Steps of batches with these numbers of microbatches: losses, norms, and in the end all weights and buffers."""
    for number, count in enumerate(counts):
        one, other = ours.play(case, SIZES[count], number), theirs.play(case, SIZES[count], number)
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    whole = theirs.part.network.state_dict()
    for number, layer in zip(ours.part.numbers, ours.part.network, strict=True):
        for name, tensor in layer.state_dict().items():
            torch.testing.assert_close(tensor, whole[f"{number}.{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "computed again"])
def test_steps_do_not_depend_on_the_cut(here, group, scheduled, recompute):
    network = built(MOODY)
    theirs = alone(here, copy.deepcopy(network), MOODY)
    part = staged(group, network, MOODY, recompute=recompute, **scheduled)
    assert_same_steps(setting(part, stages=group if group.size > 1 else None), theirs, MOODY, [8, 5, 1, 2])
    part.close()


@pytest.mark.mpi(min_size=4)
def test_replicas_of_pipelines(here, scheduled):
    """2 x 2; in a batch of one microbatch the second replica has nothing to do."""
    if here.size != 4:
        pytest.skip("a grid of 2 x 2 has four ranks")
    replica, stage = divmod(here.rank, 2)
    stages, data = here.group(replica, stage), here.group(stage, replica)
    network = built(MOODY)
    theirs = alone(here, copy.deepcopy(network), MOODY)
    part = staged(stages, network, MOODY, **scheduled)
    ours = setting(part, data=data, stages=stages, replica=replica)
    assert_same_steps(ours, theirs, MOODY, [8, 5, 1, 2])
    first, *others = data.allgather([p.detach().numpy().tobytes() for _, p in part.named()])
    assert others == [first]
    part.close()


class Words(nn.Module):
    """The likeness of the mean over a sample's positions to each word, by the words' embedding."""

    def __init__(self, words, features):
        super().__init__()
        self.linear = nn.Linear(features, words, bias=False)

    def forward(self, inputs):
        return self.linear(inputs.mean(1))


def tied():
    """The head's weight is the embedding's."""
    layers = [
        *(nn.Embedding(11, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)),
        *(nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), Words(11, 8)),
    ]
    layers[7].linear.weight = layers[0].weight
    return layers


TIED = Case(tied, (5,), 11)


@pytest.mark.parametrize("clip_norm", [0.05, 100.0])
def test_weights_that_two_stages_hold(here, group, scheduled, clip_norm):
    """Their gradients are summed over the stages, and count once in the norm."""
    network = built(TIED)
    theirs = alone(here, copy.deepcopy(network), TIED, clip_norm=clip_norm)
    if group.size > 1:
        network[7].linear.weight = nn.Parameter(network[0].weight.detach().clone())  # on a rank of its own
    part = staged(group, network, TIED, **scheduled)
    mine = network[0].weight if 0 in part.numbers else network[7].linear.weight
    holders = group.split(int(0 in part.numbers or 7 in part.numbers), group.rank)
    ties = []
    if group.size > 1 and (0 in part.numbers or 7 in part.numbers):
        ties = [Tie(mine, choose(holders, wanted="mpi", device_type="cpu", hosts=1), counts=0 in part.numbers)]
    ours = setting(part, stages=group if group.size > 1 else None, ties=ties, clip_norm=clip_norm)
    assert_same_steps(ours, theirs, TIED, [5, 2, 8])
    if ties:
        first, second = holders.allgather(mine.detach().numpy().tobytes())
        assert first == second
    part.close()


def test_a_loss_that_is_not_finite_is_told_on_every_stage(group):
    case = CASES["sequences"]
    part = staged(group, built(case), case)
    with torch.no_grad():
        for name, parameter in part.named():
            if name == "7.0.bias":
                parameter.fill_(torch.nan)
    ours = setting(part, stages=group if group.size > 1 else None, clip_norm=None)
    with pytest.raises(Exception, match="the loss is nan in epoch 1, step 1"):
        ours.play(case, SIZES[5], 0)
    part.close()
