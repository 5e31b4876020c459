"""kill -9 of one rank in every kind of phase, at random moments and inside writing, and a restart each time.

PHALANX_KILLS=100 asks for more kills than the few of an everyday test.
"""

import json
import os
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, Job, completed
from tests.runs import fragile, outcome

KILLS = int(os.environ.get("PHALANX_KILLS", "8"))
PER_PHASE = 1 if KILLS <= 8 else 3  # kills in each phase of a life
GONE_S = 10.0
SAME = (2, 1)
OTHERS = ((ALONE, 1), (2, 1), (3, 1), (2, 2))  # ranks, stages
SEED = 20
SLEEP_S = 0.02  # of each microbatch
PLACES = (
    "within write of a checkpoint of {}",
    "before rename of a checkpoint of {}",
    "before remove of a checkpoint of {}",
    "within write of run.h5",
    "before rename of progress.json",
)
STATE = re.compile(r"(\d+)-(\d+)(?:\.(\d+)of(\d+))?\.h5")


class Life(NamedTuple):
    """A run that is killed again and again: its input file, and on what grids it has run."""

    file: Path
    grids: list[tuple[int, int]]

    @property
    def folder(self) -> Path:
        return self.file.with_suffix("")

    def done(self) -> list[str]:
        """The phases that are noted as done."""
        progress = self.folder / "progress.json"
        return list(json.loads(progress.read_text())["done"]) if progress.exists() else []

    def newest(self, phase: str) -> tuple[int, int, int]:
        """Stage, epoch and step that the phase can go on from; zeros where there is nothing."""
        folder = self.folder / "checkpoints" / phase
        stages = sorted(int(path.stem[6:]) for path in folder.glob("after-*.h5"))
        stage = stages[-1] if stages else 0
        whole = Counter[tuple[int, ...]]()
        for path in (folder / str(stage + 1) if phase == "thin" else folder).glob("*.h5"):
            if found := STATE.fullmatch(path.name):
                epoch, step, _, parts = (int(word or 1) for word in found.groups())
                whole[(epoch, step, parts)] += 1
        places = sorted((epoch, step) for (epoch, step, parts), there in whole.items() if there == parts)
        return (stage, *(places[-1] if places else (0, 0)))


class Killed(NamedTuple):
    """Whether a rank was killed before the run's end, what was printed, and the last phase that had begun."""

    hit: bool
    text: str

    @property
    def phase(self) -> str:
        begun = re.findall(r"info +(\w+): \w+ begins", self.text)
        return begun[-1] if begun else "start"


@pytest.mark.timeout(120 * max(KILLS, 8))
def test_nothing_is_lost(tmp_path):
    chance = random.Random(SEED)
    straight, lasts_s = undisturbed(tmp_path)
    kills: Counter[str] = Counter()
    lives = 0
    while kills.total() < KILLS:
        same = lives % 2 == 0
        life = Life(fragile.write_every_kind(new_folder(tmp_path, lives), SLEEP_S), [])
        for phase in [phase for phase in fragile.EVERY_KIND for _ in range(PER_PHASE)]:
            if kills.total() < KILLS and phase not in life.done():
                grid = SAME if same else chance.choice(OTHERS)
                killed = kill_in(life, grid, phase, lasts_s[phase], chance)
                kills[killed.phase] += killed.hit
        life.grids.append(SAME)
        completed(life.file, *on(SAME))
        assert_nothing_lost(life, straight)
        lives += 1
        print(
            f"{lives} lives, {kills.total()} kills {dict(kills)}; the last on (ranks, stages) {life.grids}", flush=True
        )


def on(grid: tuple[int, int]) -> tuple[int, str, str]:
    """Ranks and settings of a launch."""
    return grid[0], f"grid.stages={grid[1]}", "run.measure=0"


def undisturbed(folder: Path) -> tuple[Path, dict[str, float]]:
    """The run folder of a run that nothing stops, and how long its phases take."""
    file = fragile.write_every_kind(new_folder(folder, "straight"), SLEEP_S)
    begun = []
    with Job(file, *on(SAME)) as job:
        for phase in (*fragile.EVERY_KIND, "test"):
            assert job.until(f"{phase}: .* begins"), job.text()
            begun.append(time.monotonic())
        ended = job.wait()
    assert ended.code == 0, ended.text
    lengths = (after - before for before, after in zip(begun, begun[1:], strict=False))
    return file.with_suffix(""), dict(zip(fragile.EVERY_KIND, lengths, strict=True))


def new_folder(parent: Path, name: object) -> Path:
    folder = parent / str(name)
    folder.mkdir()
    return folder


def kill_in(life: Life, grid: tuple[int, int], phase: str, lasts_s: float, chance: random.Random) -> Killed:
    """Start or go on, and kill a rank: some seconds after the phase begins, or where it writes a file."""
    life.grids.append(grid)
    done = life.done()
    places = {name: life.newest(name) for name in fragile.EVERY_KIND}
    if chance.random() < 0.5:
        after_s, rank = chance.uniform(0.0, 0.8 * lasts_s), chance.randrange(max(grid[0], 1))
        killed = killed_after(life, grid, phase, after_s, rank)
    else:
        place, count = chance.choice(PLACES).format(phase), chance.randint(1, 2)
        killed = killed_at(life, grid, phase, place, count, chance.choice([0.0, 0.001, 0.003]))
    assert_goes_on(killed.text, done, places)
    return killed


def killed_after(life: Life, grid: tuple[int, int], phase: str, after_s: float, rank: int) -> Killed:
    """kill -9 from outside; a run that nothing hits ends after the phase."""
    with Job(life.file, *on(grid), options=("--until", phase)) as job:
        there = job.until(f"{phase}: .* begins")
        time.sleep(after_s if there else 0.0)
        hit = job.kill(rank)
        assert job.seconds_to_be_gone() <= GONE_S
        ended = job.wait()
    if not hit:
        assert ended.code == 0, ended.text
    return Killed(hit and ended.code != 0, ended.text)


def killed_at(life: Life, grid: tuple[int, int], phase: str, place: str, count: int, delay_s: float) -> Killed:
    """kill -9 of rank 0 at the place in its own code, or some ms after it."""
    fragile.kill(life.file.parent, 0, place, count, delay_s if place.startswith("within") else 0.0)
    with Job(life.file, *on(grid), options=("--until", phase)) as job:
        ended = job.wait()
    fragile.spare(life.file.parent)
    assert ended.code in (0, fragile.KILLED, -9), ended.text
    return Killed(ended.code != 0, ended.text)


def assert_goes_on(text: str, done: list[str], places: dict[str, tuple[int, int, int]]) -> None:
    """As far as the run came, no phase was done twice, and each went on from the newest state of before."""
    for warned in re.findall("passed over.*", text):
        assert "it was never finished" in warned
    for phase in done:
        assert f"{phase}: {fragile.EVERY_KIND.get(phase, 'evaluate')} begins" not in text
    pieces = re.split(r"info +(\w+): \w+ begins\n", text)[1:]
    for number, (phase, said) in enumerate(zip(pieces[::2], pieces[1::2], strict=True)):
        stage, epoch, step = places.get(phase, (0, 0, 0)) if number == 0 else (0, 0, 0)
        worked = number < len(pieces) // 2 - 1 or re.search(rf"{phase}( round .*)? (epoch|step) \d", said)
        after = re.search(rf"{phase}: goes on after stage (\d+) of", said)
        found = re.search(r"goes on from its checkpoint at (?:epoch (\d+), )?step (\d+)", said)
        if after or worked:
            assert int(after[1] if after else 0) == stage, text
        if found or worked:
            assert (int(found[1] or 1) - 1 if found else 0, int(found[2]) if found else 0) == (epoch, step), text


def assert_nothing_lost(life: Life, straight: Path) -> None:
    """The numbers of the undisturbed run; to the last bit where no start was on another grid."""
    if set(life.grids) == {SAME}:
        outcome.assert_same_run(life.folder, straight)
        outcome.assert_same_run(life.folder, straight, "student")
        outcome.assert_same_bits(outcome.weights(life.folder, "thin"), outcome.weights(straight, "thin"))
        outcome.assert_same_bits(outcome.metrics(life.folder), outcome.metrics(straight))
        outcome.assert_same_bits(ground(life.folder), ground(straight))
    for phase in ("net", "student"):
        one, other = outcome.losses(life.folder, phase), outcome.losses(straight, phase)
        np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(outcome.metrics(life.folder)["loss"], outcome.metrics(straight)["loss"], rtol=1e-3)
    thin, other_thin = outcome.weights(life.folder, "thin"), outcome.weights(straight, "thin")
    assert {name: one.shape for name, one in thin.items()} == {name: one.shape for name, one in other_thin.items()}
    for name, array in ground(straight).items():
        # Adam makes steps of parameters whose gradient is nothing but rounding
        np.testing.assert_allclose(ground(life.folder)[name], array, rtol=1e-5, atol=1e-6)
    assert not list(life.folder.rglob("*.part"))
    assert not any(path.is_file() for path in (life.folder / "checkpoints").rglob("*"))


def ground(folder: Path) -> dict[str, np.ndarray]:
    """What the quantum phase found: parameters, and energies and gradients by step."""
    with h5py.File(folder / "run.h5") as file:
        found = file["phases/ground"]
        return {"values": found["values"][:], **outcome.numbers(found["steps"])}
