"""A network with twice the parameters that one rank is allowed trains, is written and is evaluated on two stages."""

import contextlib
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.launch import ALONE, TREE, Ended, Job, completed, run
from tests.runs import made, outcome

LAYERS, WIDTH = 24, 2048  # 384 MiB of weights; in training by Adam four times as much, with gradients and moments
OWN = """
from torch import nn


def network(sample_shape, outputs, width, layers):
    middle = [lambda: nn.Linear(width, width, bias=False)] * layers
    return [lambda: nn.Linear(sample_shape[0], width), *middle, lambda: nn.Linear(width, outputs)]
"""


def write(folder: Path, width: int) -> Path:
    inputs = made.features(6, samples=40)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    (folder / "own.py").write_text(OWN)
    network = {"kind": "own.py:network", "options": {"width": width, "layers": LAYERS}}
    train = {"epochs": 1, "rate": 1e-5}
    return made.write_input(folder / f"width{width}.toml", network, train, {"file": "data.h5", "validation": 0.0})


class Watched(NamedTuple):
    """How a run ended, and the largest address space that a process of it had, in bytes."""

    ended: Ended
    peak: int


def watched(file: Path, ranks: int, stages: int, limit: int | None = None) -> Watched:
    """A run; limit: bytes of address space that each of its processes may have."""
    peak = 0
    with Job(file, ranks, f"grid.stages={stages}", "run.threads=1", options=["--fresh"]) as job:
        if limit is not None:
            resource.prlimit(job.process.pid, resource.RLIMIT_AS, (limit, limit))  # inherited by what it starts
        while job.process.poll() is None:
            pids = [job.process.pid, *job.pids()]
            peak = max(peak, *map(address_space, pids))
            time.sleep(0.02)
        return Watched(job.wait(), peak)


def address_space(pid: int) -> int:
    """The largest that a process has had, in bytes; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) << 10
    return 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prlimit and /proc of Linux")
def test_address_space_for_half_of_the_network(tmp_path):
    tiny, file = write(tmp_path, 16), write(tmp_path, WIDTH)
    half = 4 * LAYERS * WIDTH**2 // 2
    # Four times its half: weights, gradients, two moments. The rest: what is read for the evaluation, and holes.
    allowed = 7 * half
    alone = watched(file, ALONE, 1, baseline(tiny, ALONE, 1) + allowed)
    assert alone.ended.code == 1, alone.ended.text
    assert "there is no memory left for this rank" in alone.ended.text
    assert "Traceback" not in alone.ended.text
    assert not (tmp_path / f"width{WIDTH}" / "networks").exists()
    limit = baseline(tiny, 2, 2) + allowed
    cut = watched(file, 2, 2, limit)
    print(f"limit {limit >> 20}, peak on 1x2 {cut.peak >> 20} MiB")
    assert cut.ended.code == 0, cut.ended.text
    assert sum(w.size for w in outcome.weights(file.with_suffix("")).values()) > LAYERS * WIDTH**2
    assert outcome.metrics(file.with_suffix(""))["loss"] > 0


def baseline(tiny: Path, ranks: int, stages: int) -> int:
    """The address space that a rank takes whose network is next to nothing, in bytes."""
    found = watched(tiny, ranks, stages)
    assert found.ended.code == 0, found.ended.text
    return found.peak


@pytest.fixture
def small(tmp_path):
    """An mlp whose weights, gradients, moments and best copy take 10 MiB; 8 MiB are allowed."""
    inputs = made.features(6)
    made.write_data(tmp_path / "data.h5", inputs, made.labels(inputs))
    data = {"file": "data.h5", "sample_shape": [6], "classes": 3}
    return made.write_input(tmp_path / "input.toml", {"kind": "mlp", "widths": [256] * 9}, {}, data)


MEMORY = 'grid.memory="8 MiB"'


def check(file: Path, ranks: int, *settings: str) -> subprocess.CompletedProcess:
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "app", "check", str(file), "--ranks", str(ranks), *chosen]
    return subprocess.run(command, capture_output=True, text=True, cwd=TREE, timeout=120)


def test_memory_of_the_grid(small):
    refused, said = run(small, 2, MEMORY), check(small, 2, MEMORY)
    assert refused.code == said.returncode == 2
    sentence = '[grid] memory = 8 MiB: in phase "net" a rank would hold'
    for text in (refused.text, said.stderr):
        assert sentence in text
        assert "stages = 2 would fit" in text
        assert "Traceback" not in text
    allowed = check(small, 2, MEMORY, "grid.stages=2")
    assert allowed.returncode == 0, allowed.stderr
    completed(small, 2, MEMORY, "grid.stages=2")
    assert outcome.metrics(small.with_suffix(""))["loss"] > 0
