"""Pieces of a predict phase: every sample of a part once and in order, and the windows that are read hold the same."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from app.data.reader import Reader
from app.data.source import open_source
from app.data.split import Split, StoredSplit
from app.phases.predict.pieces import MOST_PIECES, cut, windows
from app.phases.predict.pooling import RowsThenColumns, pooling_faster

SPLITS = {
    "all": (Split(1000, 0.0, 0.0, 0), "all"),
    "scattered": (Split(1000, 0.1, 0.3, 7), "test"),
    "stored": (StoredSplit((600, 100, 300)), "validation"),
}


@pytest.fixture
def source(tmp_path):
    """1,000 samples in two files, each sample its own number; chunks that no microbatch divides."""
    for number, (start, stop) in enumerate([(0, 613), (613, 1000)]):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            rows = np.repeat(np.arange(start, stop)[:, None], 5, 1)
            file.create_dataset("x", data=rows, chunks=(17, 5))
    with open_source([tmp_path / "0.h5", tmp_path / "1.h5"], "x", None) as opened:
        yield opened


def of(source, split, part, batch_size=40, microbatch=6, outputs=3):
    return cut(source, split, part, batch_size, microbatch, outputs, 1 << 20)


@pytest.mark.parametrize("name", SPLITS)
def test_every_sample_once_and_in_order(name, source):
    split, part = SPLITS[name]
    pieces, _ = of(source, split, part)
    assert pieces.number > 1
    found = np.concatenate([pieces.samples(number) for number in range(pieces.number)])
    assert np.array_equal(found, split.members(part, 0, 1000))


@pytest.mark.parametrize("name", SPLITS)
def test_windows_hold_the_samples_of_the_pieces(name, source):
    """Those of some pieces alone, as a rank reads them, and in the order in which it uses them."""
    split, part = SPLITS[name]
    pieces, plan = of(source, split, part)
    own = list(range(1, pieces.number, 3))
    run = list(windows(pieces, own, plan.window_blocks))
    wanted = np.concatenate([pieces.samples(number) for number in own])
    rows = max(len(window.samples) for window in run)
    reader = Reader(
        source, iter(run), frozenset({"inputs"}), ahead=2, pinned=1, rows=rows, block_rows=plan.blocks.most_rows
    )
    read = []
    with reader:
        for _ in run:
            filled = reader.next()
            read.append(filled.buffers.inputs[: len(filled.window.samples), 0].copy())
            reader.release()
    assert np.array_equal(np.concatenate(read), wanted)
    assert [window.place.last for window in run] == [False] * (len(run) - 1) + [True]


def test_pieces_are_whole_microbatches(source):
    pieces, _ = of(source, *SPLITS["all"])
    sizes = [pieces.sizes(number) for number in range(pieces.number)]
    assert {size for one in sizes[:-1] for size in one} == {6}
    assert sum(map(sum, sizes)) == 1000


def test_large_outputs_make_small_pieces_but_never_too_many(source):
    small, _ = of(source, *SPLITS["all"], outputs=1 << 14)
    usual, _ = of(source, *SPLITS["all"])
    assert small.rows < usual.rows
    assert usual.number <= small.number <= MOST_PIECES


@pytest.mark.parametrize(
    ("side", "shape"), [(2, (3, 2, 8, 8)), (2, (3, 2, 7, 9)), (3, (2, 1, 10, 4)), (2, (1, 1, 1, 5))]
)
def test_pooling_of_the_same_bits(side, shape):
    network = nn.Sequential(nn.Identity(), nn.MaxPool2d(side))
    inputs = torch.randn(shape)
    inputs[0, 0, 0, 0] = torch.nan
    with pooling_faster([network], torch.device("cpu")):
        assert isinstance(network[1], RowsThenColumns)
        try:
            expected = nn.MaxPool2d(side)(inputs)
        except RuntimeError:  # nothing would be left
            with pytest.raises(RuntimeError):
                network(inputs)
        else:
            found = network(inputs)
            assert found.shape == expected.shape
            assert found.numpy().tobytes() == expected.contiguous().numpy().tobytes()
    assert type(network[1]) is nn.MaxPool2d


@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(3, stride=2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
)
def test_pooling_of_other_windows_is_left(layer):
    network = nn.Sequential(layer)
    with pooling_faster([network], torch.device("cpu")):
        assert network[0] is layer
