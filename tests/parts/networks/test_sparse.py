"""Linear layers that are computed as sparse products: equal numbers, where a fixed rule says so."""

import pytest
import torch
from torch import nn

from app.networks import sparse
from app.networks.sparse import PAYS, SparseLinear, pays, running_sparse

ALWAYS = (sparse.Pays(0, 0, 0.0),)


def thinned(features, width, zeros=0.95, *, bias=True):
    torch.manual_seed(4)
    layer = nn.Linear(features, width, bias=bias)
    with torch.no_grad():
        layer.weight[torch.rand(width, features) < zeros] = 0
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (1, 1, 40), (7, 40), (3, 5, 40), (2, 0, 40)], ids=str)
def test_the_same_as_the_dense_layer(monkeypatch, shape, bias):
    monkeypatch.setattr(sparse, "PAYS", ALWAYS)
    dense = thinned(40, 30, bias=bias)
    layer, inputs = SparseLinear(dense), torch.randn(shape)
    with torch.inference_mode():
        found = layer(inputs)
        torch.testing.assert_close(found, dense(inputs))
    assert layer.ran
    assert found.is_contiguous()


def test_other_types_than_float32_are_computed_densely(monkeypatch):
    monkeypatch.setattr(sparse, "PAYS", ALWAYS)
    dense = thinned(40, 30)
    layer, inputs = SparseLinear(dense), torch.randn(5, 40)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(inputs), dense(inputs))
    assert not layer.ran


def test_the_rule_looks_at_size_rows_and_zeros():
    large, small = torch.empty(1024, 1024), torch.empty(64, 64)
    assert pays(large, 0.99, 64)
    assert not pays(large, 0.5, 64)
    assert not pays(small, 0.99, 64)
    assert not pays(large.double(), 0.99, 64)
    assert not pays(torch.empty(1024, 1024, device="meta"), 0.99, 64)
    assert pays(large, 0.9, 64)
    assert not pays(large, 0.9, 256)
    assert not pays(large, 0.99, 1)
    assert pays(torch.empty(2048, 2048), 0.95, 1)
    assert all(one.zeros > 0.85 for one in PAYS), "no sparse product was faster with fewer zeros"


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(thinned(40, 40))
        self.whole = thinned(40, 40)

    def forward(self, inputs):
        return self.whole(self.inner(inputs))


def test_named_layers_are_replaced_inside_and_there_again_afterwards(monkeypatch):
    monkeypatch.setattr(sparse, "PAYS", ALWAYS)
    network = nn.Sequential()
    network.add_module("first", thinned(40, 40))
    network.add_module("second", Own())
    inputs, parts = torch.randn(6, 40), dict(network.named_modules())
    names = {"first.weight", "second.inner.0.weight", "not here.weight"}
    with torch.inference_mode():
        before = network(inputs)
        with running_sparse([network], names, bf16=False) as layers:
            assert len(layers) == 2
            assert isinstance(network.first, SparseLinear)
            torch.testing.assert_close(network(inputs), before)
            assert all(layer.ran for layer in layers)
            assert network.state_dict().keys() == {f"{n}.{k}" for n, p in parts.items() for k in p._parameters}
    assert dict(network.named_modules()) == parts


def test_a_failure_inside_puts_the_layers_back(monkeypatch):
    monkeypatch.setattr(sparse, "PAYS", ALWAYS)
    network = nn.Sequential(thinned(40, 40))
    layer = network[0]
    with pytest.raises(RuntimeError), running_sparse([network], {"0.weight"}, bf16=False):
        network(torch.randn(3, 41))
    assert network[0] is layer


def test_layers_that_never_pay_and_runs_in_bf16_stay_dense():
    network = nn.Sequential(thinned(40, 40), thinned(1024, 1024, 0.5), thinned(1024, 1024, 0.99))
    names = {f"{number}.weight" for number in range(3)}
    with running_sparse([network], names, bf16=False) as layers:
        assert [type(layer) for layer in network] == [nn.Linear, nn.Linear, SparseLinear]
        assert len(layers) == 1
    with running_sparse([network], names, bf16=True) as layers:
        assert not layers


def test_two_zeros_in_each_four_are_recognised():
    weight = torch.zeros(64, 64)
    weight.view(-1, 4)[:, 1:3] = 1
    assert sparse._two_of_four(weight)
    assert not sparse._two_of_four(weight[:60])
    weight[3, 4] = 1
    assert not sparse._two_of_four(weight)
