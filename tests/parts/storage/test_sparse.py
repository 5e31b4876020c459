"""Weights with removed connections: the same bits back, in the form that takes fewer bytes."""

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError
from app.storage.artifact_file import Provenance
from app.storage.describe import describe
from app.storage.leaves import Later
from app.storage.networks import read_architecture, read_network, stored_bytes, write_network
from app.storage.sparse import Csr, pack, packed, unpacked

FROM = Provenance("phalanx", "0.1.0", "", "run", "pruned")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


def thinned(*shape, zeros=0.9, dtype=torch.float32):
    """Random numbers, a share of them 0."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(shape, generator=generator).to(dtype)
    weight[torch.rand(shape, generator=generator) < zeros] = 0
    return weight


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (16, 8, 3, 3), (1, 40), (40, 1)], ids=str)
def test_the_same_bits_come_back(tmp_path, shape, dtype):
    weights = {"a.weight": thinned(*shape, dtype=dtype), "a.bias": torch.ones(3), "b.weight": thinned(5, 5)}
    path = tmp_path / "net.h5"
    write_network(path, weights, {"sparse": ["a.weight"]}, {}, FROM)
    found = read_network(path)
    assert list(found.weights) == list(weights)
    for name, weight in weights.items():
        assert found.weights[name].dtype == weight.dtype
        assert found.weights[name].shape == weight.shape
        assert bits(found.weights[name]) == bits(weight)
    assert read_network(path, lambda name: name == "a.bias").weights.keys() == {"a.bias"}
    assert read_network(path, lambda name: name == "a.weight").weights.keys() == {"a.weight"}
    assert read_architecture(path).weights == {}


def test_rows_without_elements():
    weight = torch.zeros(6, 9)
    assert bits(unpacked(pack(weight)._asdict(), "w")) == bits(weight)
    weight[4, 8] = 2
    assert bits(unpacked(pack(weight)._asdict(), "w")) == bits(weight)


def test_what_is_not_a_number_is_kept_and_a_negative_zero_is_a_zero():
    weight = torch.zeros(4, 5)
    weight[1, 2], weight[2, 0], weight[3, 4] = torch.nan, torch.inf, -0.0
    parts = pack(weight)
    assert len(parts.values) == 2
    weight[3, 4] = 0.0
    assert bits(unpacked(parts._asdict(), "w")) == bits(weight)


def test_a_user_reads_it_as_a_matrix_of_scipy(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="scipy comes with scikit-learn, which CI installs")
    weight = thinned(30, 20)
    write_network(tmp_path / "net.h5", {"w": weight}, {"sparse": ["w"]}, {}, FROM)
    with h5py.File(tmp_path / "net.h5") as file:
        group = file["weights/w"]
        values, columns, rows, shape = (group[n][:] for n in ("values", "columns", "row_pointers", "shape"))
    assert (columns.dtype, rows.dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(sparse.csr_matrix((values, columns, rows), shape).toarray(), weight.numpy())


@pytest.mark.parametrize(("zeros", "is_sparse"), [(0.3, False), (0.5, False), (0.6, True), (0.95, True)])
def test_the_smaller_form_is_stored_and_counted(tmp_path, zeros, is_sparse):
    weights = {"w": thinned(64, 64, zeros=zeros), "bias": torch.zeros(64)}
    chosen = packed(weights, {"w", "bias"})
    assert isinstance(chosen["w"], Csr) == is_sparse
    assert chosen["bias"] is weights["bias"], "one dim stays as it is"
    write_network(tmp_path / "net.h5", weights, {"sparse": ["w"]}, {}, FROM)
    with h5py.File(tmp_path / "net.h5") as file:
        sizes = []
        file["weights"].visititems(lambda _, one: sizes.append(one.nbytes) if isinstance(one, h5py.Dataset) else None)
    assert stored_bytes(weights, {"w"}) == sum(sizes)
    assert stored_bytes(weights) == 4 * (64 * 64 + 64)


def test_parts_that_come_later(tmp_path):
    weight = thinned(16, 16)
    parts = pack(weight)
    later = Csr(*(Later(tuple(part.shape), part.dtype, lambda part=part: part) for part in parts))
    write_network(tmp_path / "net.h5", {"w": later}, {"sparse": ["w"]}, {}, FROM)
    assert bits(read_network(tmp_path / "net.h5").weights["w"]) == bits(weight)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": torch.tensor([0, 99], dtype=torch.int32)},
        {"row_pointers": torch.tensor([0, 2, 1, 2])},
        {"row_pointers": torch.tensor([0, 1, 2])},
        {"shape": torch.tensor([3])},
        {"shape": torch.tensor([3, 0])},
        {"values": torch.ones(3)},
        {"more": torch.ones(1)},
    ],
    ids=str,
)
def test_parts_that_do_not_go_together_are_refused(tmp_path, change):
    weight = torch.zeros(3, 4)
    weight[0, 1] = weight[2, 3] = 1
    parts = pack(weight)._asdict()
    assert bits(unpacked(parts, "w")) == bits(weight)
    with pytest.raises(ValueError, match="w: "):
        unpacked(parts | change, "w")


def test_a_damaged_network_names_its_file(tmp_path):
    parts = pack(thinned(8, 8))
    write_network(tmp_path / "net.h5", {"w": parts._replace(shape=torch.tensor([8, 2]))}, {}, {}, FROM)
    with pytest.raises(ArtifactError, match="net.h5.*weights/w"):
        read_network(tmp_path / "net.h5")


def test_info_counts_the_elements_of_the_whole_weight(tmp_path):
    write_network(tmp_path / "net.h5", {"w": thinned(64, 64), "b": torch.zeros(64)}, {"sparse": ["w"]}, {}, FROM)
    text = "\n".join(describe(tmp_path / "net.h5"))
    assert "4,160 numbers in 2 tensors, 1 of them in compressed sparse rows" in text
