"""A stored file is whole or refused: every byte of it is checked before HDF5 sees it."""

import hashlib
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError
from app.storage import artifact_file, header
from app.storage.artifact_file import Provenance

PROVENANCE = Provenance("phalanx", "0.1.0", '[run]\nname = "ziffern é"\n', "a1b2c3", "teacher")


def a_tree():
    generator = torch.Generator().manual_seed(1)
    return {"w": {"0.weight": torch.randn(20, 30, generator=generator)}, "z": 1, "a": [0.5, 0.25], "note": "x"}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "networks" / "teacher.h5"
    artifact_file.write(path, a_tree(), kind="network", provenance=PROVENANCE)
    return path


def reason(path, kind="network"):
    with pytest.raises(ArtifactError) as caught:
        artifact_file.read(path, kind=kind)
    (problem,) = caught.value.problems
    assert str(path) in problem
    return problem


def test_what_was_written_is_read(written):
    tree, found = artifact_file.read(written, kind="network")
    assert list(tree) == ["w", "z", "a", "note"]
    assert torch.equal(tree["w"]["0.weight"], a_tree()["w"]["0.weight"])
    assert (tree["z"], tree["a"], tree["note"]) == (1, [0.5, 0.25], "x")
    assert found.kind == "network"
    assert found.provenance == PROVENANCE
    assert found.bytes == written.stat().st_size
    assert abs(datetime.fromisoformat(found.written) - datetime.now(UTC)).total_seconds() < 60


def test_plain_h5py_opens_it(written):
    with h5py.File(written) as file:
        assert file.userblock_size == header.SIZE
        assert file["w/0.weight"].shape == (20, 30)
        assert dict(file.attrs) | {"written": ""} == {
            "creator": "phalanx", "version": "0.1.0", "kind": "network", "input": PROVENANCE.input_text,
            "run_id": "a1b2c3", "phase": "teacher", "written": "",
        }  # fmt: skip


def test_the_first_bytes_say_what_it_is(written):
    text = written.read_bytes()[: header.SIZE].decode()
    assert text.startswith("PHALANX\nformat 1\nkind network\nsha256 ")
    assert f"\nbytes {written.stat().st_size - header.SIZE}\n" in text


def test_only_the_file_itself_is_left_in_the_folder(written):
    assert [path.name for path in written.parent.iterdir()] == ["teacher.h5"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        artifact_file.write(tmp_path / "a.h5", {}, kind="network", provenance=PROVENANCE)
    finally:
        os.umask(before)
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o640


def test_the_same_tree_gives_the_same_bytes_in_another_process(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\nfrom app.storage import artifact_file as f\n"
        "tree = {'w': np.ones((300, 7)), 'e': np.arange(5.), 'd': {'a/b': 1, 's': 'text', 'l': ['a', '']}}\n"
        "f.write(Path(sys.argv[1]), tree, kind='network', provenance=f.Provenance('phalanx', '1', 'x', 'r', 'p'))\n"
    )
    images = []
    for number in range(2):
        path = tmp_path / f"{number}.h5"
        # Leftovers in freed memory differ, so that uninitialised bytes would show.
        environment = os.environ | {"MALLOC_PERTURB_": str(17 + number)}
        subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60, env=environment)
        with h5py.File(path) as file:
            written = file.attrs["written"].encode()
        images.append(path.read_bytes()[header.SIZE :].replace(written, b"T" * len(written)))
    assert images[0] == images[1]


def test_an_input_text_of_any_length_and_content(tmp_path):
    text = "key = 1 # é\n" * 50_000 + "\0\ud800"
    path = tmp_path / "a.h5"
    artifact_file.write(path, {}, kind="run", provenance=Provenance("phalanx", "1", text, "r", ""))
    found = artifact_file.read(path, kind="run").header.provenance
    assert found.input_text == "key = 1 # é\n" * 50_000 + "\\0\\ud800"
    assert found.phase == ""


def test_every_flipped_bit_is_found(written):
    content = written.read_bytes()
    chosen = random.Random(3)
    places = [*range(header.SIZE), *chosen.sample(range(header.SIZE, len(content)), 300)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chosen.randrange(8)
        written.write_bytes(damaged)
        assert re.search("damaged|truncated|not a Phalanx file|newer|kind is", reason(written)), place


def test_every_truncation_is_found(written):
    content = written.read_bytes()
    for length in [0, 1, 7, 8, 100, 511, 512, 513, 600, len(content) // 2, len(content) - 1]:
        written.write_bytes(content[:length])
        assert re.search("truncated|not a Phalanx file", reason(written)), length
    written.write_bytes(content[:-1000])
    assert f"truncated: {len(content) - 1000:,} of {len(content):,} bytes" in reason(written)


def test_bytes_at_the_end_are_found(written):
    with written.open("ab") as file:
        file.write(b"xyz")
    assert "3 bytes follow" in reason(written)


def test_a_checksum_that_differs_is_called_so(written):
    content = bytearray(written.read_bytes())
    content[-1] ^= 1
    written.write_bytes(content)
    assert "checksum (sha256) differs" in reason(written)


def test_another_kind_is_refused(written):
    assert "kind is 'network', expected 'checkpoint'" in reason(written, "checkpoint")


def test_a_newer_format_is_refused(written):
    content = written.read_bytes()
    written.write_bytes(content.replace(b"format 1", b"format 7", 1))
    problem = reason(written)
    assert "format 7" in problem
    assert "update Phalanx" in problem


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.ones(3)
    assert "it is HDF5, but not written by Phalanx" in reason(path)
    path.write_text("hello")
    assert "it begins with b'hello'" in reason(path)
    path.write_bytes(b"")
    assert "empty" in reason(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    assert "no such file" in reason(tmp_path / "none.h5")
    assert "not a regular file" in reason(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in reason(tmp_path / "pipe")


def test_a_right_checksum_over_foreign_hdf5_is_refused(tmp_path):
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as file:
        file.attrs["kind"] = "network"
        file["a"] = h5py.SoftLink("/b")
    forged = tmp_path / "forged.h5"
    for image, words in [(plain.read_bytes(), ""), (b"no HDF5 at all", "HDF5 cannot open it")]:
        forged.write_bytes(header.make("network", hashlib.sha256(image).hexdigest(), len(image)) + image)
        assert f"checksum is right, but {words}" in reason(forged)


def test_a_tree_that_cannot_be_stored_leaves_the_older_file(written):
    before = written.read_bytes()
    with pytest.raises(TypeError, match="w/bad"):
        artifact_file.write(written, {"w": {"bad": object()}}, kind="network", provenance=PROVENANCE)
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["teacher.h5"]


def test_importing_the_room_loads_neither_torch_nor_h5py():
    modules = ("artifact_file", "checkpoints", "networks", "results", "run_folder", "describe", "tree")
    program = f"import sys; from app.storage import {', '.join(modules)}; print({{'torch', 'h5py'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "set()"
