"""A network comes back with its weights by name, its architecture and its extras."""

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError
from app.storage import artifact_file
from app.storage.artifact_file import Provenance
from app.storage.leaves import Later
from app.storage.networks import read_architecture, read_network, write_network

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")


def a_network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )


def test_a_state_dict_comes_back_to_the_bit(tmp_path):
    network, path = a_network(), tmp_path / "networks" / "teacher.h5"
    architecture = {
        "kind": "convnet",
        "sample_shape": [1, 8, 8],
        "layers": [{"name": "conv", "out": 4}, {"name": "fc"}],
    }
    extras = {"mean": np.float32([0.1]).reshape(1, 1, 1), "classes": ["zero", "one"], "accuracy": 0.97}
    write_network(path, network.state_dict(), architecture, extras, PROVENANCE)
    found = read_network(path)
    assert list(found.weights) == list(network.state_dict())
    other = a_network()
    other.load_state_dict(found.weights)
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(other.eval()(images), network.eval()(images))
    assert found.weights["1.num_batches_tracked"].dtype == torch.int64
    assert found.architecture == architecture
    assert found.extras["classes"] == ["zero", "one"]
    assert found.extras["mean"].dtype == np.float32
    assert found.header.provenance == PROVENANCE


def test_a_user_finds_each_weight_by_its_name(tmp_path):
    network = a_network()
    write_network(tmp_path / "a.h5", network.state_dict(), {}, {}, PROVENANCE)
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["weights"]["3.weight"], network[3].weight.detach())


def test_weights_come_later_and_are_read_by_name(tmp_path):
    network, path = a_network(), tmp_path / "a.h5"
    weights = {
        name: Later(tuple(weight.shape), weight.dtype, weight.clone) for name, weight in network.state_dict().items()
    }
    write_network(path, weights, {"kind": "convnet"}, {"accuracy": 0.97}, PROVENANCE)
    found = read_network(path, keep=lambda name: name.startswith("3."))
    assert list(found.weights) == ["3.weight", "3.bias"]
    assert torch.equal(found.weights["3.weight"], network[3].weight)
    assert (found.architecture, found.extras) == ({"kind": "convnet"}, {"accuracy": 0.97})
    without = read_architecture(path)
    assert without == found._replace(weights={})


@pytest.mark.parametrize("value", [1.0, Later((), np.dtype("f4"), lambda: np.float32(1))])
def test_what_is_no_tensor_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match=f"weights/a: a {type(value).__name__}, expected a tensor"):
        write_network(tmp_path / "a.h5", {"a": value}, {}, {}, PROVENANCE)


def test_another_kind_is_refused(tmp_path):
    artifact_file.write(tmp_path / "a.h5", {}, kind="run", provenance=PROVENANCE)
    with pytest.raises(ArtifactError, match="expected 'network'"):
        read_network(tmp_path / "a.h5")
    artifact_file.write(tmp_path / "a.h5", {"weights": 1}, kind="network", provenance=PROVENANCE)
    with pytest.raises(ArtifactError, match="lacks weights"):
        read_network(tmp_path / "a.h5")
