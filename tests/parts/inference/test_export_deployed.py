"""What is put around a network when it is exported, and how far two forms of one lie apart."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from app.data.signature import Signature
from app.data.statistics import Statistics
from app.data.transform import Transform
from app.errors import InputError
from app.inference.comparing import compared, largest_difference
from app.inference.deployed import Deployed, answer_of, program_of
from app.networks.quantum import QuantumLayer


def statistics(*shape):
    random = np.random.default_rng(1)
    mean, std = (random.random(shape).astype(np.float32) for _ in range(2))
    std.reshape(-1)[0] = 0  # a constant is not divided by its deviation
    return Statistics(mean, std, 10)


@pytest.mark.parametrize(
    ("shape", "transform"),
    [
        ((6,), Transform()),
        ((6,), Transform(statistics=statistics(6))),
        ((4, 5, 3), Transform(layout="channels_last", statistics=statistics(1, 1, 3))),
        ((4, 5, 3), Transform(layout="channels_last", statistics=statistics(4, 5, 3))),
        ((4, 5), Transform(add_channel=True, statistics=statistics(1, 1))),
        ((3, 4, 5), Transform(add_channel=True, statistics=statistics(3, 1, 1))),
        ((7,), Transform(tokens=True)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_stored_samples_become_the_same_inputs(shape, transform, dtype):
    signature = Signature("x", shape, transform, 2)
    rows = np.random.default_rng(2).integers(0, 200, (3, *shape)).astype(dtype)
    given = torch.from_numpy(rows).to(torch.int64 if transform.tokens else torch.float32)
    found = Deployed(nn.Identity(), signature)(given).float().numpy()
    wanted = answer_of(nn.Identity(), signature)(rows)
    assert found.shape == (3, *signature.input_shape)
    assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_network_stays_as_it_is():
    network = nn.Sequential(nn.Linear(3, 3), QuantumLayer(3, 2))
    made = Deployed(network, Signature("x", (3,), Transform(), 3))
    assert isinstance(network[1], QuantumLayer)
    assert not any(isinstance(part, QuantumLayer) for part in made.modules())
    assert made.network[0].weight is network[0].weight


def test_a_network_that_prints_its_graph_when_it_fails_is_quiet(capfd):
    class Branches(nn.Module):
        def forward(self, inputs):
            return inputs if float(inputs.sum()) > 0 else -inputs

    signature = Signature("x", (3,), Transform(), 3)
    with pytest.raises(InputError, match="does not depend on values"):
        program_of(Deployed(Branches(), signature), signature)
    assert capfd.readouterr().err == ""


def test_differences_are_relative_to_the_largest_output():
    wanted = np.array([[1.0, -10.0]], np.float32)
    assert largest_difference(wanted, wanted + np.float32(0.5)) == pytest.approx(0.05)
    assert largest_difference(wanted, wanted) == 0
    assert largest_difference(wanted[:0], wanted[:0]) == 0
    assert largest_difference(0 * wanted, 0 * wanted) == 0


@pytest.mark.parametrize("broken", ["ours", "theirs", "shape", "zeros"])
def test_what_cannot_be_compared_is_infinitely_far(broken):
    one, other = np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)
    if broken == "shape":
        other = other[:1]
    elif broken == "zeros":
        one[:] = 0
    else:
        (one if broken == "ours" else other)[0, 0] = np.nan
    assert largest_difference(one, other) == math.inf


def test_batches_may_be_larger_than_what_there_is():
    sizes = []

    def other(rows):
        sizes.append(len(rows))
        return rows + (len(rows) == 7)

    found = compared(lambda rows: rows, {"good": lambda rows: rows, "bad": other}, np.ones((3, 1), np.float32), (1, 7))
    assert sizes == [1, 7]
    assert found == {"good": 0.0, "bad": 1.0}
