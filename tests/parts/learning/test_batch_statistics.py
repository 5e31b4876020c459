"""Running statistics move once per step by the mean over all microbatches, whoever computed them."""

import pytest
import torch
from torch import nn

from app.learning.batch_statistics import BatchStatistics

STEPS, MICROBATCHES = 3, 4


def _network(momentum=0.3):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.BatchNorm1d(36, momentum=0.1),
    )


def _microbatch(step, number):
    generator = torch.Generator().manual_seed(10 * step + number)
    return torch.randn(6, 2, 5, 5, generator=generator) * (1 + step) + number


def _train(replicas, momentum=0.3):
    """Replica networks after some steps; the sum over replicas is made here instead of by an all-reduce."""
    torch.manual_seed(1)
    first = _network(momentum)
    networks = [first, *(_copy(first, momentum) for _ in range(replicas - 1))]
    statistics = [BatchStatistics(network) for network in networks]
    for step in range(STEPS):
        for number in range(MICROBATCHES):
            replica = number % replicas
            networks[replica](_microbatch(step, number))
            statistics[replica].collect_()
        flat = [one.tensors()[0] for one in statistics]
        total = sum(tensor.clone() for tensor in flat)
        for tensor, one in zip(flat, statistics, strict=True):
            tensor.copy_(total)
            one.apply_()
    return networks, statistics


def _copy(network, momentum):
    other = _network(momentum)
    other.load_state_dict(network.state_dict())
    return other


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_the_formula_on_any_number_of_replicas(replicas, momentum):
    networks, _ = _train(replicas, momentum)
    mean, variance = torch.zeros(4), torch.ones(4)
    for step in range(STEPS):
        values = [networks[0][0](_microbatch(step, number)).detach() for number in range(MICROBATCHES)]
        weight = 1 / (step + 1) if momentum is None else momentum
        mean = (1 - weight) * mean + weight * torch.stack([v.mean((0, 2, 3)) for v in values]).mean(0)
        variance = (1 - weight) * variance + weight * torch.stack([v.var((0, 2, 3)) for v in values]).mean(0)
    for network in networks:
        torch.testing.assert_close(network[1].running_mean, mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network[1].running_var, variance, rtol=1e-5, atol=1e-6)
        assert network[1].num_batches_tracked == network[4].num_batches_tracked == STEPS


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_replicas_agree_bit_for_bit_and_with_one_replica_up_to_rounding(replicas):
    networks, _ = _train(replicas)
    alone = _train(1)[0][0].state_dict()
    for network in networks:
        for name, value in network.state_dict().items():
            assert torch.equal(value, networks[0].state_dict()[name])
            torch.testing.assert_close(value, alone[name], rtol=1e-5, atol=1e-6)


def test_one_microbatch_per_step_is_torchs_own_batch_norm():
    torch.manual_seed(1)
    ours, theirs = _network(), _network()
    theirs.load_state_dict(ours.state_dict())
    statistics = BatchStatistics(ours)
    for step in range(STEPS):
        assert torch.equal(ours(_microbatch(step, 0)), theirs(_microbatch(step, 0)))
        statistics.collect_()
        statistics.apply_()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_evaluation_between_steps_uses_the_running_statistics_and_changes_nothing():
    (network,), (statistics,) = _train(1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    one, same = network(_microbatch(9, 0)), network(_microbatch(9, 0))
    assert torch.equal(one, same)
    statistics.apply_()  # a step without microbatches
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_momentum_comes_back():
    (network,), (statistics,) = _train(1)
    assert network[1].momentum == network[4].momentum == 1.0
    statistics.close_()
    assert (network[1].momentum, network[4].momentum) == (0.3, 0.1)


def test_loaded_weights_are_where_the_statistics_go_on():
    stored = {name: value.clone() for name, value in _train(1)[0][0].state_dict().items()}
    torch.manual_seed(1)
    network = _network()
    statistics = BatchStatistics(network)
    network.load_state_dict(stored)
    statistics.restart_()
    statistics.apply_()
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())


def test_instance_norm_that_tracks_is_covered_and_the_rest_is_not():
    network = nn.Sequential(
        nn.InstanceNorm1d(3, track_running_stats=True),
        nn.InstanceNorm1d(3),
        nn.BatchNorm1d(3, track_running_stats=False),
    )
    assert BatchStatistics(network).tensors()[0].shape == (7,)


def test_networks_without_running_statistics_cost_nothing():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    statistics = BatchStatistics(network)
    statistics.collect_()
    assert statistics.tensors() == []
    statistics.apply_()
    statistics.restart_()
    statistics.close_()
