"""kill -9 of one rank at random moments of a run, and a restart each time: nothing is lost.

PHALANX_KILLS=20 asks for more moments than the few of an everyday test.
"""

import os
import random
import re
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.launch import ALONE, Job, completed
from tests.runs import fragile, outcome

KILLS = int(os.environ.get("PHALANX_KILLS", "6"))
GONE_S = 10.0
RANKS = 2
OTHERS = (ALONE, 2, 3)
SEED = 20
SLEEP_S = 0.02  # of each microbatch: training takes about as long as the start
EPOCHS = 10


class Life(NamedTuple):
    """A run that is killed again and again: its input file, and on how many ranks it has run."""

    file: Path
    ranks: list[int]

    @property
    def folder(self) -> Path:
        return self.file.with_suffix("")

    def newest(self) -> tuple[int, int]:
        """Epoch and step of the newest checkpoint; (0, 0) where there is none."""
        names = sorted(path.stem for path in (self.folder / "checkpoints" / "net").glob("??????-????????.h5"))
        epoch, step = names[-1].split("-") if names else ("0", "0")
        return int(epoch), int(step)

    def trained(self) -> bool:
        """Whether the phase that trains is noted as done."""
        progress = self.folder / "progress.json"
        return progress.exists() and '"net": {' in progress.read_text().split('"input"')[0]


@pytest.mark.timeout(120 * max(KILLS, 6))
def test_nothing_is_lost(tmp_path):
    chance = random.Random(SEED)
    straight, lasts_s = undisturbed(tmp_path)
    lives: list[Life] = []
    kills = 0
    while kills < KILLS:
        same = len(lives) % 2 == 0
        life = Life(fragile.write(new_folder(tmp_path, len(lives)), SLEEP_S, epochs=EPOCHS), [])
        lives.append(life)
        ended = False
        while kills < KILLS and not ended:
            ranks = RANKS if same else chance.choice(OTHERS)
            ended = not killed(life, ranks, chance.randrange(max(ranks, 1)), chance.uniform(0.0, lasts_s))
            kills += not ended
    for life in lives:
        completed(life.file, RANKS)
        life.ranks.append(RANKS)
        assert_nothing_lost(life, straight)
    print(f"{kills} kills over {[life.ranks for life in lives]} ranks; an undisturbed run takes {lasts_s:.1f} s")


def undisturbed(folder: Path) -> tuple[Path, float]:
    """The run folder of a run that nothing stops, and how long it takes."""
    file = fragile.write(new_folder(folder, "straight"), SLEEP_S, epochs=EPOCHS)
    begun = time.monotonic()
    completed(file, RANKS)
    return file.with_suffix(""), time.monotonic() - begun


def new_folder(parent: Path, name: object) -> Path:
    folder = parent / str(name)
    folder.mkdir()
    return folder


def killed(life: Life, ranks: int, rank: int, after_s: float) -> bool:
    """Start or go on, and kill a rank after so many seconds; False when the run came to its end before."""
    place, trained = life.newest(), life.trained()
    life.ranks.append(ranks)
    with Job(life.file, ranks) as job:
        time.sleep(after_s)
        hit = job.kill(rank)
        assert job.seconds_to_be_gone() <= GONE_S
        ended = job.wait()
        if not hit:
            assert ended.code == 0, ended.text
        assert_goes_on(ended.text, place, trained)
    return hit


def assert_goes_on(text: str, place: tuple[int, int], trained: bool) -> None:
    """As far as the run came, it went on from the newest checkpoint of before, and not from the beginning."""
    if trained:
        assert "net: train begins" not in text
    found = re.search(r"goes on from its checkpoint at epoch (\d+), step (\d+)", text)
    if found:
        assert (int(found[1]) - 1, int(found[2])) == place
    elif re.search(r"net epoch \d", text):
        assert place == (0, 0)
    assert "passed over" not in text


def assert_nothing_lost(life: Life, straight: Path) -> None:
    """The numbers of the undisturbed run; to the last bit where no start had another number of ranks."""
    if set(life.ranks) == {RANKS}:
        outcome.assert_same_run(life.folder, straight)
        outcome.assert_same_bits(outcome.metrics(life.folder), outcome.metrics(straight))
    np.testing.assert_allclose(outcome.losses(life.folder), outcome.losses(straight), rtol=1e-4)
    assert not list(life.folder.rglob("*.part"))
