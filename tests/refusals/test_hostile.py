"""Files of strangers named in an input file: they run no code, are led nowhere, and are told in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from app.data.statistics import Statistics
from app.storage.artifact_file import Provenance
from app.storage.networks import read_network, write_network
from tests.launch import launcher
from tests.refusals.conftest import ENVIRON, SAMPLES
from tests.refusals.test_distill import PHASE

DISTILL = PHASE.replace('teacher = "first"', 'teacher = "other.h5"')
EVIL = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from torch import nn

def build(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))
"""
TITLE = '[[phase]] "pupil": teacher = "other.h5": '


def stranger_network(path: Path, **changes) -> None:
    """A network file as a stranger may make it, that goes with the job's data."""
    tree = {"kind": "mlp", "options": {}, "sample_shape": [4, 4], "outputs": 3} | changes
    weights = {"1.weight": torch.ones(3, 16), "1.bias": torch.ones(3)}
    data = Statistics(np.zeros((1, 1)), np.ones((1, 1)), 240, 3, np.full(3, 80)).to_tree()
    write_network(path, weights, tree, {"data": data}, Provenance("phalanx", "0", "", "run", "first"))


@pytest.fixture
def distilled(job):
    """The good job with a distill phase alone, whose teacher is a stranger's file."""
    job.input.write_text(job.input.read_text().partition("[[phase]]")[0] + DISTILL)
    (job.folder / "evil.py").write_text(EVIL)
    return job


@pytest.fixture
def teacher(job):
    """A network of the user's own function, trained by another run that lies beside the job."""
    (job.folder / "evil.py").write_text(EVIL)
    text = job.input.read_text()
    job.input.write_text(text.partition('[[phase]]\nkind = "evaluate"')[0])
    job.edit(('kind = "mlp"\nwidths = [8]', 'kind = "evil.py:build"'))
    assert job.run().code == 0
    (job.results / "networks" / "first.h5").rename(job.folder / "other.h5")
    (job.folder / "executed").unlink()
    job.input.write_text(text.partition("[[phase]]")[0].replace("results", "second") + DISTILL)
    return job


@pytest.mark.parametrize("where", ["{folder}/evil.py:build", "evil.py:build", "{folder}/../{name}/evil.py:build"])
def test_code_that_only_a_network_file_names_is_not_run(distilled, refused, where):
    kind = where.format(folder=distilled.folder, name=distilled.folder.name)
    stranger_network(distilled.folder / "other.h5", kind=kind)
    refused(distilled.run(), TITLE, f"made by {kind}, which this input file does not name", "if you trust it")
    assert not (distilled.folder / "executed").exists()


def test_another_function_of_a_named_file_is_not_run(distilled, refused):
    stranger_network(distilled.folder / "other.h5", kind=f"{distilled.folder}/evil.py:build")
    distilled.edit(('kind = "mlp"\nwidths = [8]', 'kind = "evil.py:other"'))
    refused(distilled.run(), "evil.py:build, which this input file does not name")
    assert not (distilled.folder / "executed").exists()


def test_the_teacher_of_another_run_with_the_users_own_function(teacher, refused):
    refused(teacher.run(), TITLE, "which this input file does not name")
    assert not (teacher.folder / "executed").exists()
    teacher.edit(('kind = "mlp"\nwidths = [8]', 'kind = "evil.py:build"'))
    assert teacher.run().code == 0
    assert (teacher.folder / "executed").exists()


def test_a_function_named_as_the_student_or_beside_the_file_may_be_run(teacher):
    teacher.edit(('{kind = "mlp", widths = [4]}', '{kind = "evil.py:build"}'))
    assert teacher.run().code == 0
    teacher.edit(('{kind = "evil.py:build"}', '{kind = "mlp", widths = [4]}'), ("second", "third"))
    teacher.edit(('teacher = "other.h5"', 'teacher = ["other.h5", "evil.py:build"]'))
    assert teacher.run().code == 0


def test_networks_of_the_runs_own_folder_stay_usable(job):
    (job.folder / "evil.py").write_text(EVIL)
    job.edit(('kind = "mlp"\nwidths = [8]', 'kind = "evil.py:build"'))
    assert job.run().code == 0
    assert read_network(job.results / "networks" / "first.h5").architecture["kind"] == f"{job.folder}/evil.py:build"


NO_ARCHITECTURE = {
    "no kind": ({"kind": 3}, "its architecture has no 'kind'"),
    "no outputs": ({"outputs": "three"}, "its architecture has no 'outputs'"),
    "options": ({"options": [1]}, "its architecture has no 'options'"),
    "another kind": ({"kind": "mlpp"}, "network kind 'mlpp' is not known"),
}


@pytest.mark.parametrize("name", NO_ARCHITECTURE)
def test_a_strangers_network_that_is_none(distilled, refused, name):
    changes, words = NO_ARCHITECTURE[name]
    stranger_network(distilled.folder / "other.h5", **changes)
    refused(distilled.run(), TITLE, words)


def test_a_strangers_network_without_constants(distilled, refused):
    tree = {"kind": "mlp", "options": {}, "sample_shape": [4, 4], "outputs": 3}
    provenance = Provenance("phalanx", "0", "", "run", "first")
    write_network(distilled.folder / "other.h5", {"a": torch.ones(1)}, tree, {"data": {"mean": 1}}, provenance)
    refused(distilled.run(), TITLE, "it says not what its network was trained on")


HOSTILE = {
    "external link": (lambda h5: h5.__setitem__("images", h5py.ExternalLink("/etc/x.h5", "/y")), "an external link"),
    "dangling link": (lambda h5: h5.__setitem__("images", h5py.SoftLink("/gone")), "a soft link to '/gone'"),
    "values elsewhere": (
        lambda h5: h5.create_dataset("images", (SAMPLES,), "u1", external=[("/etc/passwd", 0, SAMPLES)]),
        "keeps its values in another file (/etc/passwd)",
    ),
    "too large": (
        lambda h5: h5.create_dataset("images", (SAMPLES, 1 << 15, 1 << 15), "f4", chunks=(1, 64, 64)),
        "a sample of 'images' has 4,294,967,296 bytes",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_data_file(job, refused, name):
    fill, words = HOSTILE[name]
    job.store(images=None)
    with h5py.File(job.data, "a") as h5:
        fill(h5)
    refused(job.run(), str(job.data), words)


def test_a_hostile_data_file_on_several_ranks(job, refused):
    job.store(images=None)
    with h5py.File(job.data, "a") as h5:
        h5.create_dataset("images", (SAMPLES,), "u1", external=[("/etc/passwd", 0, SAMPLES)])
    refused(job.launch(3), str(job.data), "keeps its values in another file (/etc/passwd)")


ONE_CHILD = """
import sys
from app.cli import main
from app.storage import header_walk

def child(tasks):
    print("a child for", len(tasks), flush=True)
    return ask(tasks)

ask, header_walk._child = header_walk._child, child
sys.exit(main(["run", sys.argv[1]]))
"""


def test_one_process_looks_at_all_files_for_all_ranks(job):
    job.store("more.h5")
    job.edit(('"data.h5"', '["data.h5", "more.h5"]'))
    told = job.start([*launcher(3), sys.executable, "-c", ONE_CHILD, str(job.input)])
    assert told.code == 0
    assert told.out.count("a child") == told.out.count("a child for 2") == 1


def test_a_pipe_as_data_file(job, refused):
    job.data.unlink()
    os.mkfifo(job.data)
    refused(job.run(), f"{job.data}: is not a regular file")


@pytest.mark.parametrize("command", ["info", "run"])
def test_control_characters_of_a_data_file_are_printed_escaped(job, command):
    job.store(images=None)
    with h5py.File(job.data, "a") as h5:
        h5["\x1b[2J\x07\r"], h5["soft\x1b"] = [1], h5py.SoftLink("\x1b]0;title\x07")
    told = job.run() if command == "run" else job.command("info", str(job.data))
    lines = (told.out + told.err).splitlines()
    assert any(r"\x1b[2J\x07\r" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_info_on_a_pipe_and_on_what_harms_hdf5(job, refused):
    os.mkfifo(job.folder / "pipe")
    refused(job.command("info", str(job.folder / "pipe")), "not a regular file")


def test_a_run_leaves_nothing_that_others_may_write(job):
    words = [
        sys.executable,
        "-c",
        f"import os; os.umask(0); from app.cli import main; main(['run', {str(job.input)!r}])",
    ]
    environ = ENVIRON | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120)
    assert "done; results in" in done.stdout
    made = [job.results, *job.results.rglob("*")]
    assert len(made) > 5
    assert [path.name for path in made if path.stat().st_mode & 0o022] == []
