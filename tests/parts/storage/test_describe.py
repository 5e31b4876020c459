"""`phalanx info` tells a stranger what a file is."""

import hashlib

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError, DataError
from app.storage import artifact_file, header, header_walk
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints
from app.storage.describe import describe
from app.storage.header_walk import check_artifact
from app.storage.networks import write_network
from app.storage.results import Results

PROVENANCE = Provenance(
    "phalanx", "0.1.0", "[run]\n" + "".join(f"key{n} = 1\n" for n in range(30)), "a1b2c3", "teacher"
)


def facts(lines):
    """The lines before the first empty one, by their first word."""
    head = lines[: lines.index("")]
    return {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in head}


def table(lines, name):
    """The cells of one dataset's line."""
    (line,) = [line for line in lines if line.startswith(f"{name} ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_network(tmp_path):
    path = tmp_path / "teacher.h5"
    weights = {"conv.weight": torch.ones(6, 3, 5, 5), "fc.weight": torch.ones(10, 84).bfloat16()}
    architecture = {"kind": "lenet", "sample_shape": [3, 32, 32], "layers": [{"name": "conv", "out": 6}]}
    write_network(path, weights, architecture, {"classes": ["cat", "dog"], "accuracy": 0.97}, PROVENANCE)
    lines = describe(path)
    found = facts(lines)
    assert found["kind"] == "network"
    assert found["phase"] == "teacher"
    assert found["run"] == "a1b2c3"
    assert found["written"].endswith("by phalanx 0.1.0")
    assert found["weights"] == "1,290 numbers in 2 tensors, 3.4 KiB"
    assert found["architecture"] == "kind lenet, sample_shape 3, 32, 32"
    assert found["architecture/layers/0"] == "name conv, out 6"
    assert found["extras"] == "classes cat, dog, accuracy 0.97"
    assert table(lines, "weights/conv.weight") == ["weights/conv.weight", "6 x 3 x 5 x 5", "float32", "1.8 KiB"]
    assert table(lines, "weights/fc.weight")[2] == "bfloat16"
    assert "  [run]" in lines
    assert "  ... 19 more lines in the attribute 'input'" in lines


def test_a_checkpoint(tmp_path):
    path = Checkpoints(tmp_path).write({"a/b": 1}, provenance=PROVENANCE, phase="teacher", epoch=3, step=120)
    lines = describe(path)
    assert (facts(lines)["kind"], facts(lines)["epoch"], facts(lines)["step"]) == ("checkpoint", "3", "120")
    assert any(line.startswith("state/a/b ") for line in lines)
    assert "part" not in facts(lines)


def test_a_part_of_a_checkpoint(tmp_path):
    path = Checkpoints(tmp_path).write({}, provenance=PROVENANCE, phase="t", epoch=3, step=1, part=1, parts=4)
    assert facts(describe(path))["part"] == "2 of 4"


def test_a_run(tmp_path):
    results = Results(tmp_path / "run.h5")
    results.append(("phases", "teacher", "epochs"), {"loss": [0.5, 0.25], "accuracy": [0.8, 0.9]}, PROVENANCE)
    results.update({"phases": {"teacher": {"state": "done"}, "score": {"accuracy": 0.97}}}, PROVENANCE)
    found = facts(describe(results.path))
    assert found["teacher"] == "state done"
    assert found["teacher/epochs"] == "last of 2: loss 0.25, accuracy 0.9"
    assert found["score"] == "accuracy 0.97"
    assert "phase" not in found


def test_a_stranger_with_rings_and_links_to_elsewhere(tmp_path):
    path = tmp_path / "measured.h5"
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "measured\non Monday"
        file.create_dataset("digits/images", (1797, 8, 8), "u1", chunks=(64, 8, 8), compression="gzip")
        file["digits/labels"] = np.zeros(1797, np.int64)
        file["names"] = ["a", "b"]
        file["soft"] = h5py.SoftLink("/nowhere")
        file["external"] = h5py.ExternalLink("/etc/other.h5", "/")
        file["digits/up"] = file["/"]
        file["none"] = h5py.Empty("f4")
    lines = describe(path)
    assert facts(lines)["kind"] == "HDF5, not written by Phalanx"
    assert facts(lines)["title"] == "measured on Monday"
    assert table(lines, "digits/images") == [
        "digits/images",
        "1797 x 8 x 8",
        "uint8",
        "112.3 KiB",
        "64 x 8 x 8",
        "gzip",
    ]
    assert table(lines, "none")[1] == "empty"
    assert "1,797 samples along axis 0 in: digits/images, digits/labels" in lines
    assert '  [data] could say: inputs = "digits/images", targets = "digits/labels"' in lines
    assert "links, not followed:" in lines
    assert any(line.endswith("external -> / in the file /etc/other.h5") for line in lines)
    assert any(line.endswith("soft -> /nowhere") for line in lines)


def test_a_stranger_with_odd_types_filters_and_names(tmp_path):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["compound"] = np.zeros(3, [("x", "f4"), ("y", "i2")])
        file.create_dataset("shuffled", data=np.ones((10, 4)), chunks=(5, 4), shuffle=True, fletcher32=True)
        file["\x1b[2Jname"] = 1.0
        file["reference"] = np.array([file.ref], h5py.ref_dtype)
        layout = h5py.VirtualLayout((10, 4), "f8")
        layout[:] = h5py.VirtualSource("none.h5", "x", (10, 4))
        file.create_virtual_dataset("joined", layout)
        h5py.h5d.create(file.id, b"times", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((3,)))
        file["type"] = np.dtype("f8")
    lines = describe(path)
    assert not any("\x1b" in line for line in lines)
    assert any(line.startswith(r"\x1b[2Jname") for line in lines)
    assert table(lines, "shuffled")[-2:] == ["5 x 4", "shuffle + fletcher32"]
    assert table(lines, "joined")[-2:] == ["virtual", "-"]
    assert table(lines, "times")[:4] == ["times", "3", "unknown", "12 B"]
    assert "'x'" in table(lines, "compound")[2]


def test_control_characters_and_long_names_of_a_stranger(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["\x1b[31m/\r\n\u202etxt"] = [1, 2]
        file.attrs["\x07bell"] = "\x1b]0;title\x07"
        file["link\x1b"] = h5py.SoftLink("\x1b[2J")
        file["n" * 60_000] = 1
    lines = describe(tmp_path / "a.h5")
    assert all(line.isprintable() and len(line) <= 400 for line in lines)
    assert any(r"\x1b[31m/\r\n\u202etxt" in line for line in lines)
    assert any(r"link\x1b -> \x1b[2J" in line for line in lines)


def test_a_strangers_values_in_other_files_are_not_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (100,), "u1", external=[("/etc/passwd", 0, 100)])
    lines = describe(tmp_path / "a.h5")
    assert table(lines, "x")[-2:] == ["in other files", "-"]
    assert not any("root:" in line for line in lines)


def with_right_checksum(path, kind, fill):
    """A file that says it is ours, made by a stranger who can compute a checksum."""
    with h5py.File(path, "w") as file:
        for name in ("creator", "version", "input", "run_id", "phase", "written"):
            file.attrs[name] = "x"
        file.attrs["kind"] = kind
        fill(file)
    body = path.read_bytes()
    path.write_bytes(header.make(kind, hashlib.sha256(body).hexdigest(), len(body)) + body)


HOSTILE = {
    "values in another file": lambda file: file.create_dataset("step", (20,), "S1", external=[("/etc/passwd", 0, 20)]),
    "external link": lambda file: file.__setitem__("step", h5py.ExternalLink("/etc/x.h5", "/")),
    "soft link": lambda file: file.__setitem__("step", h5py.SoftLink("/gone")),
    "two names": lambda file: (file.__setitem__("a", [1]), file.__setitem__("step", file["a"])),
    "any length": lambda file: file.__setitem__("step", ["a", "bc"]),
    "chunks": lambda file: file.create_dataset("step", data=np.ones(8), chunks=(4,), compression="gzip"),
    "a virtual dataset": lambda file: file.create_virtual_dataset("step", virtual_of("/etc/x.h5")),
}


def virtual_of(other):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(other, "x", (4,))
    return layout


@pytest.mark.parametrize("what", HOSTILE)
def test_a_stranger_who_claims_to_be_phalanx(tmp_path, what):
    path = tmp_path / "a.h5"
    with_right_checksum(path, "checkpoint", HOSTILE[what])
    with pytest.raises(ArtifactError, match="its checksum is right, but Phalanx did not write it so: step: ") as caught:
        describe(path)
    assert len(caught.value.problems) == 1
    with (
        pytest.raises(ArtifactError, match="Phalanx did not write it so: step: "),
        artifact_file.opened(path, kind="checkpoint"),
    ):
        pass
    with pytest.raises(ArtifactError, match="Phalanx did not write it so: step: "):
        artifact_file.read(path, kind="checkpoint")
    with pytest.raises(ArtifactError, match="Phalanx did not write it so: step: "):
        check_artifact(path, "checkpoint")


def test_a_file_that_harms_hdf5_is_told_as_damaged(tmp_path, monkeypatch):
    begin, _, end = header_walk._CODE.rpartition("from app")
    harm = "import os; from app.storage import describe; describe.describe_here = lambda path: os.abort()\n"
    monkeypatch.setattr(header_walk, "_CODE", f"{begin}{harm}\nfrom app{end}")
    with pytest.raises(DataError, match=r"a\.h5: is damaged: HDF5 crashes on its headers \(SIGABRT\)"):
        describe(tmp_path / "a.h5")


def test_a_stranger_without_datasets(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    assert "no datasets" in describe(tmp_path / "a.h5")


def test_many_datasets_are_counted_instead_of_shown(tmp_path):
    artifact_file.write(tmp_path / "a.h5", {f"n{n}": n for n in range(500)}, kind="state", provenance=PROVENANCE)
    lines = describe(tmp_path / "a.h5")
    assert lines[-1] == "... and 440 more datasets"


def test_what_is_no_good_file_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "a.h5"
    artifact_file.write(path, {"a": 1}, kind="run", provenance=PROVENANCE)
    whole = path.read_bytes()
    cases = {
        "truncated": whole[:-10],
        "checksum": whole[:-1] + bytes([whole[-1] ^ 1]),
        "empty": b"",
        "begins with b'hello'": b"hello",
        "HDF5 cannot read it": b"\x89HDF\r\n\x1a\n" + bytes(3000),
    }
    for words, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=words) as caught:
            describe(path)
        assert len(caught.value.problems) == 1
    for other, words in [(tmp_path, "a folder"), (tmp_path / "none", "No such file")]:
        with pytest.raises(ArtifactError, match=words):
            describe(other)
