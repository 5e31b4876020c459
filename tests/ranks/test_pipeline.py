"""Pipelines over all ranks against plain torch on one: gradients and evaluation."""

import copy
import random

import pytest
import torch
from torch import nn

from app.learning.evaluation import evaluate
from app.learning.metrics import Classification
from app.learning.pipeline import Gradients, precision
from app.learning.randomness import LayerRandomness
from tests.ranks.staged import CASES, CPU, SIZES, Late, Mean, batch_of, built, seen_by, sequences, staged

pytestmark = pytest.mark.mpi


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


def late_at_first(arrived):
    """As `arrived`, but no message is there when it is asked for the first time: what can be early is."""
    known = []

    def answer(receipt):
        if any(receipt is one for one in known):
            return arrived(receipt)
        known.append(receipt)
        return False

    return answer


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
        if upto[0] == 0.004 and part.pipeline.inbox:
            links = part.pipeline.inbox._links
            links.arrived = late_at_first(links.arrived)
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
            assert len(found) == (len(batch.microbatches) if part.pipeline.final in part.pipeline.chunks else 0)
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
