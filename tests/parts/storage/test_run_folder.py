"""The run folder: made where it can be, emptied only of what Phalanx wrote."""

import os
import subprocess
import sys
import tempfile

import pytest
import torch

from app.errors import MachineError
from app.report.log import Log
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints
from app.storage.networks import write_network
from app.storage.results import Results
from app.storage.run_folder import RunFolder

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "results" / "digits")


def fill(folder):
    folder.create()
    log = Log(folder.log, console=False)
    log.info("begun")
    log.close()
    Results(folder.results).update({"a": 1}, PROVENANCE)
    write_network(folder.network("teacher"), {"w": torch.ones(1)}, {}, {}, PROVENANCE)
    Checkpoints(folder.checkpoints("teacher")).write({}, provenance=PROVENANCE, phase="teacher", epoch=0, step=1)
    (folder.watchdog / "0").write_text("here")


def test_the_layout(folder):
    inside = {
        "log": folder.log, "results": folder.results, "network": folder.network("a"), "data": folder.data("a"),
        "checkpoints": folder.checkpoints("a"), "predictions": folder.predictions("a"), "exports": folder.exports,
        "watchdog": folder.watchdog,
    }  # fmt: skip
    assert {name: str(path.relative_to(folder.path)) for name, path in inside.items()} == {
        "log": "run.log", "results": "run.h5", "network": "networks/a.h5", "data": "data/a.h5",
        "checkpoints": "checkpoints/a", "predictions": "predictions/a.h5", "exports": "exports",
        "watchdog": ".watchdog",
    }  # fmt: skip


def test_making_it_twice_keeps_what_is_there(folder):
    fill(folder)
    folder.create()
    assert Results(folder.results).read() == {"a": 1}
    assert folder.network("teacher").exists()


def test_clearing_takes_everything_of_ours(folder):
    fill(folder)
    removed, left = folder.clear()
    assert sorted(str(path.relative_to(folder.path)) for path in removed) == [
        ".watchdog/0", "checkpoints/teacher/000000-00000001.h5", "networks/teacher.h5", "run.h5", "run.log",
    ]  # fmt: skip
    assert left == ()
    assert os.listdir(folder.path) == []


def test_parts_of_a_checkpoint_are_seen_and_cleared(folder):
    folder.create()
    assert not folder.has_checkpoints("teacher")
    checkpoints = Checkpoints(folder.checkpoints("teacher"))
    checkpoints.write({}, provenance=PROVENANCE, phase="teacher", epoch=0, step=1, part=1, parts=2)
    assert folder.has_checkpoints("teacher")
    assert [path.name for path in folder.clear().removed] == ["000000-00000001.2of2.h5"]
    assert os.listdir(folder.path) == []


def test_clearing_leaves_what_is_a_strangers(folder):
    fill(folder)
    strangers = {
        "thesis.tex": "text",
        "networks/mine.h5": "not ours",
        "networks/notes.txt": "text",
        "checkpoints/teacher/keep.h5": "text",
        "exports/other.onnx": "text",
        "data/raw.h5": "\x89HDF",
        "src/run.log": "text",
    }
    for name, text in strangers.items():
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text(text)
    (folder.exports / "teacher.onnx").write_text("made by the export phase")
    folder.log.write_text("log of another program\n")
    _, left = folder.clear(exported=["teacher"])
    for name, text in strangers.items():
        assert (folder.path / name).read_text() == text
    assert folder.log.exists()
    assert not (folder.exports / "teacher.onnx").exists()
    assert not folder.results.exists()
    assert folder.path / "thesis.tex" in left
    assert folder.log in left


def test_clearing_what_was_never_made(folder):
    assert folder.clear() == ((), ())
    assert not folder.path.exists()


def test_a_file_in_the_way_is_named(folder):
    folder.path.parent.mkdir()
    folder.path.write_text("")
    with pytest.raises(MachineError, match="digits: cannot be made"):
        folder.create()
    folder.path.unlink()
    folder.path.mkdir()
    (folder.path / "networks").write_text("")
    with pytest.raises(MachineError, match="networks: a file lies where the run needs a folder"):
        folder.create()


def test_a_folder_that_cannot_be_written_is_refused():
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom app.errors import MachineError\n"
        "from app.storage.run_folder import RunFolder\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: RunFolder(Path(sys.argv[1])).create()\n"
        "except MachineError as error: print(error)\n"
    )
    # Not tmp_path: pytest closes its parents to other users, and root may write anywhere.
    with tempfile.TemporaryDirectory() as closed:
        os.chmod(closed, 0o555)
        command = [sys.executable, "-c", program, f"{closed}/run"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert "/run: cannot be made or written in: Permission denied" in out
