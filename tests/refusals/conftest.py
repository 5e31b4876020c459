"""A good job of a few hundred samples that each test spoils in one place, and what every refusal has to look like."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from app.cli import main
from tests.launch import launcher

SAMPLES = 240
GOOD = """\
[run]
name = "job"
folder = "{results}"
device = "cpu"

[data]
file = "data.h5"
inputs = "images"
targets = "labels"

[network]
kind = "mlp"
widths = [8]

[[phase]]
kind = "train"
name = "first"
epochs = 1
batch_size = 40
microbatch_size = 10
"""
EVALUATE = """
[[phase]]
kind = "evaluate"
name = "test-of-first"
"""
# What the shell that runs the tests has: MPI adds variables to a process that has started it, and its mpirun minds.
ENVIRON = dict(os.environ)
# Open MPI's mpirun adds these when a rank's exit code is not 0, whatever the program said; the first one always, the
# second when a rank has not finished leaving while another one has, the third when its event loop meets a closed pipe.
LAUNCHERS_WORDS = re.compile(
    r"\n?-{40,}\n(?:(?!-{40,}).)*non-zero status.*?\n-{40,}\n?|^\[[^\]\n]+\] PMIX ERROR: [^\n]*\n?"
    r"|^\[warn\] Epoll [^\n]*\n?",
    re.DOTALL | re.MULTILINE,
)


class Told(NamedTuple):
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Job:
    """An input file `job.toml` and its `data.h5`, both good until a test changes them."""

    folder: Path
    command: Callable[..., Told]

    @property
    def input(self) -> Path:
        return self.folder / "job.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data.h5"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace pieces of the input file's text; each must be there."""
        text = self.input.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        self.input.write_text(text)

    def store(self, file: str = "data.h5", **datasets: Any) -> None:
        """Write an HDF5 file: good images and labels, but for the datasets given; None leaves one out."""
        generator = np.random.default_rng(5)
        good = {
            "images": generator.random((SAMPLES, 4, 4), np.float32),
            "labels": generator.integers(0, 3, SAMPLES),
        }
        with h5py.File(self.folder / file, "w") as handle:
            for name, values in (good | datasets).items():
                if values is not None:
                    handle[name] = values

    def check(self, *arguments: str) -> Told:
        return self.command("check", str(self.input), *arguments)

    def run(self, *arguments: str) -> Told:
        return self.command("run", str(self.input), *arguments)

    def launch(self, ranks: int, *arguments: str) -> Told:
        """`phalanx run` on several ranks."""
        return self.start([*launcher(ranks), sys.executable, "-m", "app", "run", str(self.input), *arguments])

    def start(self, words: Sequence[str]) -> Told:
        """Any command of this working tree's Python."""
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            env=ENVIRON | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Told(done.returncode, done.stdout, LAUNCHERS_WORDS.sub("", done.stderr))


@pytest.fixture
def job(tmp_path, capfd, monkeypatch):
    """The good job; its commands run in this process, as one rank."""
    # a run installs hooks for uncaught exceptions; they are not for the test program
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def command(*arguments: str) -> Told:
        capfd.readouterr()
        code = main(arguments)
        gc.enable()  # a command puts it off until all is imported
        for number in (signal.SIGUSR1, signal.SIGTERM):  # and a run ends deaf to these
            signal.signal(number, signal.SIG_DFL)
        return Told(code, *capfd.readouterr())

    made = Job(tmp_path, command)
    made.input.write_text(GOOD.format(results=made.results) + EVALUATE)
    made.store()
    return made


@pytest.fixture
def trained(job):
    """The good job with its train phase done; the evaluate phase came to the input file afterwards."""
    text = job.input.read_text()
    job.input.write_text(text.replace(EVALUATE, ""))
    assert job.run().code == 0
    job.input.write_text(text)
    return job


@pytest.fixture
def refused():
    """Check a refusal: `refused(told, "important", "words", lines=1, code=2)`."""

    def refused(told: Told, *words: str, lines: int = 1, code: int = 2) -> None:
        text = told.err.rstrip("\n")
        print(text)  # shown by pytest when the test fails, and by -s -rA
        assert told.code == code
        assert "Traceback" not in told.out + told.err
        assert len(text.splitlines()) == lines
        missing = [word for word in words if word not in text]
        assert not missing
        # said once: neither twice by one rank nor by two
        assert all(text.count(line) == 1 for line in text.splitlines())
        assert all(line not in told.out for line in text.splitlines())

    return refused
