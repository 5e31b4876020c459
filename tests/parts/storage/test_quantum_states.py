"""State vectors on disk: whole or refused."""

import numpy as np
import pytest

from app.errors import ArtifactError
from app.storage.artifact_file import Provenance
from app.storage.describe import describe
from app.storage.quantum_states import read_state, write_state

PROVENANCE = Provenance("phalanx", "0.1.0", "[run]\n", "a1b2c3", "ground")
POSITIONS = [2, 0, 1, 3]


def arrays(seed, dtype=np.float64):
    make = np.random.default_rng(seed)
    return make.normal(size=16).astype(dtype), make.normal(size=16).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_comes_back_bit_for_bit(tmp_path, dtype):
    re, im = arrays(1, dtype)
    write_state(tmp_path / "state", re, im, POSITIONS, None, PROVENANCE)
    found = read_state(tmp_path / "state", None)
    assert found.positions == POSITIONS
    assert found.re.dtype == dtype
    np.testing.assert_array_equal(found.re, re)
    np.testing.assert_array_equal(found.im, im)


def test_the_newest_state_is_kept(tmp_path):
    for seed in (1, 2):
        write_state(tmp_path, *arrays(seed), POSITIONS, None, PROVENANCE)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(read_state(tmp_path, None).re, arrays(2)[0])


def test_a_state_of_which_a_part_was_never_written_gives_way_to_the_older_one(tmp_path):
    write_state(tmp_path, *arrays(1), POSITIONS, None, PROVENANCE)
    (tmp_path / "000002.1of2.h5").write_bytes((tmp_path / "000001.1of1.h5").read_bytes())
    np.testing.assert_array_equal(read_state(tmp_path, None).re, arrays(1)[0])
    (tmp_path / "000001.1of1.h5").unlink()
    with pytest.raises(ArtifactError, match="1 files, of no state all parts"):
        read_state(tmp_path, None)


def test_a_damaged_file_is_refused(tmp_path):
    write_state(tmp_path, *arrays(1), POSITIONS, None, PROVENANCE)
    path = tmp_path / "000001.1of1.h5"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="checksum"):
        read_state(tmp_path, None)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="nothing of a state"):
        read_state(tmp_path / "none", None)


def test_info_describes_a_part(tmp_path):
    write_state(tmp_path, *arrays(1, np.float32), POSITIONS, None, PROVENANCE)
    text = "\n".join(describe(tmp_path / "000001.1of1.h5"))
    assert "quantum-state" in text
    assert "4, in amplitudes of 2 x float32" in text
    assert "1 of 1, 16 amplitudes" in text
    assert "qubit 0 at bit 2, qubit 1 at bit 0" in text
