"""400 damaged checkpoints: each is found, the older one is used, and the user is told."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints

PROVENANCE = Provenance("phalanx", "0.1.0", '[run]\nname = "digits"\n', "a1b2c3", "teacher")
CASES = 200


def state(step: int, part: int) -> dict:
    """What a rank of a training keeps: weights, moments, metrics, where it is."""
    generator = torch.Generator().manual_seed(step)
    weights = {f"layer{part}.{n}.weight": torch.randn(24, 24, generator=generator) for n in range(3)}
    return {
        "weights": weights,
        "optimizer": {"first": {name: 0.1 * tensor for name, tensor in weights.items()}, "steps": step},
        "rows": [{"loss": 2.0 / step, "accuracy": 0.5}],
        f"random{part}": np.arange(600, dtype=np.uint8),
        "best": None,
    }


def written(folder: Path, parts: int) -> tuple[Checkpoints, list[Path]]:
    """Two checkpoints, and the files of the newer one."""
    checkpoints = Checkpoints(folder)
    for step in (10, 20):
        paths = [
            checkpoints.write(
                state(step, part), provenance=PROVENANCE, phase="teacher", epoch=1, step=step, part=part, parts=parts
            )
            for part in range(parts)
        ]
        checkpoints.drop(1, step, parts)
    assert checkpoints.newest().step == 20
    assert checkpoints.passed_over == ()
    return checkpoints, paths


def flipped(content: bytes, chosen: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chosen.randrange(len(changed))] ^= 1 << chosen.randrange(8)
    return bytes(changed)


def cut(content: bytes, chosen: random.Random) -> bytes:
    return content[: chosen.randrange(len(content))]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("damage", [flipped, cut])
def test_every_damaged_checkpoint_is_found_and_the_older_one_used(
    tmp_path: Path, damage: Callable[[bytes, random.Random], bytes], parts: int
) -> None:
    checkpoints, paths = written(tmp_path, parts)
    older = {name: tensor for part in range(parts) for name, tensor in state(10, part)["weights"].items()}
    chosen = random.Random(parts)
    found = 0
    for case in range(CASES // 2):
        path = paths[case % parts]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, chosen))
        newest = checkpoints.newest()
        (passed,) = checkpoints.passed_over
        found += passed.path == path and newest.step == 10
        assert passed.reason.startswith(f"{path}: ")
        assert "What to try" in passed.reason
        assert newest.tree["weights"].keys() == older.keys()
        assert all(torch.equal(newest.tree["weights"][name], tensor) for name, tensor in older.items())
        path.write_bytes(whole)
    assert found == CASES // 2
    assert checkpoints.newest().step == 20
