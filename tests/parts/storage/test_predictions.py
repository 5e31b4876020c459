"""Pieces of predictions on the disk, and the file that is made of them."""

from functools import partial

import h5py
import numpy as np
import pytest

from app.errors import ArtifactError
from app.storage import predictions, set_pieces
from app.storage.artifact_file import Provenance

PROVENANCE = Provenance("phalanx", "0", "", "run", "use")
SIZES = (4, 4, 3)


def samples(number):
    return np.arange(sum(SIZES[:number]), sum(SIZES[: number + 1])) * 2


def rows(number):
    numbers = samples(number)
    return {
        "sample": numbers,
        "probabilities": (numbers[:, None] / np.array([1, 2])).astype(np.float32),
        "ids/event": numbers + 100,
    }


@pytest.fixture
def folder(tmp_path):
    """Three whole pieces."""
    path = tmp_path / "work" / "use"
    predictions.begin(path)
    for number in range(len(SIZES)):
        predictions.write_piece(predictions.piece_path(path, number), "key", rows(number), {"n": number})
    return path


def gathered(folder, key="key", samples_of=samples, add=lambda sums: None):
    return predictions.gathered(folder, key, len(SIZES), samples_of, add)


def test_a_file_of_all_pieces_in_order(folder, tmp_path):
    seen = []
    with gathered(folder, add=seen.append) as columns:
        predictions.write(tmp_path / "use.h5", columns, {"network": "net", "class_names": ["a", "b"]}, PROVENANCE)
    assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]
    with h5py.File(tmp_path / "use.h5") as file:
        assert file["sample"][:].tolist() == list(range(0, 22, 2))
        assert np.array_equal(file["probabilities"][:, 0], np.arange(0, 22, 2, np.float32))
        assert file["ids/event"][:].tolist() == list(range(100, 122, 2))
        assert file["network"][()] == b"net"
    predictions.delete(folder, range(3))
    assert not folder.exists()


def test_a_piece_that_is_missing(folder):
    predictions.piece_path(folder, 1).unlink()
    with pytest.raises(ArtifactError, match="piece-000000001: cannot be opened: No such file"), gathered(folder):
        pass


def test_pieces_that_are_not_those_of_these_predictions(folder):
    with pytest.raises(ArtifactError, match="is not a piece of these predictions"), gathered(folder, key="other"):
        pass
    others = partial(gathered, samples_of=lambda number: samples(number) + 1)
    with pytest.raises(ArtifactError, match="other samples than those of piece 0"), others(folder):
        pass


def test_what_was_counted_comes_back_to_the_last_bit(tmp_path):
    sums = {
        "metrics": {"loss": 0.1 + 0.2, "places": np.array([], np.int64), "sums": np.arange(6.0).reshape(2, 3) / 7},
        "watch": {"outputs value": np.array([1, 2], np.uint8)},
        "nothing": None,
    }
    predictions.write_piece(tmp_path / "piece-000000000", "key", rows(0), sums)
    found = predictions.read_piece(tmp_path / "piece-000000000")
    assert found.key == "key"
    assert list(found.rows) == list(rows(0))
    assert all(np.array_equal(found.rows[name], array) for name, array in rows(0).items())
    assert found.sums["metrics"]["loss"] == sums["metrics"]["loss"]
    assert found.sums["nothing"] is None
    for table, name in (("metrics", "places"), ("metrics", "sums"), ("watch", "outputs value")):
        array = found.sums[table][name]
        assert (array.dtype, array.tolist()) == (sums[table][name].dtype, sums[table][name].tolist())


def test_a_damaged_piece_is_not_joined(folder):
    """A value, or the words of a piece that somebody else has made."""
    path = predictions.piece_path(folder, 2)
    content = path.read_bytes()
    path.write_bytes(content.replace(rows(2)["probabilities"].tobytes(), bytes(rows(2)["probabilities"].nbytes)))
    with pytest.raises(ArtifactError, match="piece-000000002: damaged: the checksum"), gathered(folder):
        pass
    set_pieces.write_piece(path, "key", rows(2), {})
    with pytest.raises(ArtifactError, match="is not a piece of predictions"), gathered(folder):
        pass


def test_which_pieces_are_whole(folder):
    whole = partial(predictions.is_whole, samples=samples(0))
    path = predictions.piece_path(folder, 0)
    assert whole(path, "key")
    assert not whole(path, "other")
    assert not predictions.is_whole(path, "key", samples(1))
    content = bytearray(path.read_bytes())
    content[content.index(rows(0)["ids/event"].tobytes())] ^= 1
    path.write_bytes(content)
    assert not whole(path, "key")
    path.write_bytes(content[:100])
    assert not whole(path, "key")
    path.unlink()
    assert not whole(path, "key")
    assert predictions.piece_numbers(folder) == [1, 2]
