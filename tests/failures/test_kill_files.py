"""kill -9 of one rank while raw files become a set, and while a network predicts: each record is there exactly once.

PHALANX_KILLS=10 asks for so many kills in each of the two phases, instead of the few of an everyday test.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, TREE, Job, completed
from tests.runs import outcome

KILLS = int(os.environ.get("PHALANX_KILLS", "2"))
RANKS = (ALONE, 2, 3)
FILE = TREE / "inputs" / "full_chain.toml"
SMALL = ("phase.events.piece=64 KiB", "phase.particles.batch_size=64")  # more pieces, and more moments between them
SHORT = (*SMALL, "phase.classifier.epochs=1", "run.measure=0", "run.threads=1")
SEED = 7


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run that nothing stops."""
    return go(tmp_path_factory.mktemp("straight") / "run", 2)


def go(folder: Path, ranks: int, until: str = "particles") -> Path:
    """Start or go on, to the end of a phase."""
    completed(FILE, ranks, *SHORT, f"run.folder={folder}", options=("--until", until))
    return folder


def predicted(folder: Path) -> dict[str, np.ndarray]:
    """What the predictions' file holds by sample."""
    with h5py.File(folder / "predictions" / "particles.h5") as file:
        return {name: file[name][:] for name in ("sample", "event", "labels", "probabilities")}


def prepared(folder: Path) -> dict[str, np.ndarray]:
    """What the set holds by sample, and its digest."""
    with h5py.File(folder / "data" / "events.h5") as file:
        found = {name: file[name][:] for name in ("event", "image", "particle")}
        return found | {"digest": np.array(str(file.attrs["digest"]))}


def test_preprocess(straight, tmp_path):
    expected = prepared(straight)
    assert len(np.unique(expected["event"])) == len(expected["event"]) > 10_000

    def assert_whole(folder: Path) -> None:
        outcome.assert_same_bits(prepared(folder), expected)
        assert [path.name for path in (folder / "data").iterdir()] == ["events.h5"]

    kill_again_and_again("events", lambda folder: None, assert_whole, tmp_path)


def test_predict(straight, tmp_path):
    expected, ready = predicted(straight), go(tmp_path / "ready", 2, "next-year")
    assert np.array_equal(expected["sample"], np.arange(3000))

    def assert_whole(folder: Path) -> None:
        outcome.assert_same_bits(predicted(folder), expected)

    kill_again_and_again("particles", lambda folder: shutil.copytree(ready, folder), assert_whole, tmp_path)


def kill_again_and_again(
    phase: str, begin: Callable[[Path], object], assert_whole: Callable[[Path], None], parent: Path
) -> None:
    """Runs that are killed at random moments of the phase and go on, on changing ranks, until they come to its end."""
    chance = random.Random(SEED)
    kills = number = 0
    while kills < KILLS:
        folder = parent / str(number)
        begin(folder)
        lasts_s = 1.0
        while kills < KILLS:
            ranks = chance.choice(RANKS)
            hit, took_s = killed(folder, ranks, phase, chance.uniform(0.0, lasts_s), chance.randrange(max(ranks, 1)))
            kills += hit
            if not hit:
                lasts_s = took_s
                break
        go(folder, chance.choice(RANKS), phase)
        assert_whole(folder)
        assert not (folder / "work").exists()
        assert not list(folder.rglob("*.part"))
        number += 1
    print(f"{phase}: {kills} kills in {number} folders", flush=True)


def killed(folder: Path, ranks: int, phase: str, after_s: float, rank: int) -> tuple[bool, float]:
    """Whether a rank was killed so long after the phase began, before its end; and how long the phase lasted."""
    with Job(FILE, ranks, *SHORT, f"run.folder={folder}", options=("--until", phase)) as job:
        begins = job.until(f"{phase}: .* begins")  # or the last kill came when all was done
        begun = time.monotonic()
        time.sleep(after_s if begins else 0.0)
        hit = begins and job.kill(rank)
        ended = job.wait()
        took_s = time.monotonic() - begun
    if not hit:
        assert ended.code == 0, ended.text
    return hit and ended.code != 0, max(took_s, 0.5)
