"""What a finished run left in its folder, read with h5py alone."""

from pathlib import Path

import h5py
import numpy as np


def losses(folder: Path, phase: str = "net") -> np.ndarray:
    """The loss of every step."""
    with h5py.File(folder / "run.h5") as file:
        return file[f"phases/{phase}/steps/loss"][:]


def epochs(folder: Path, phase: str = "net") -> dict[str, np.ndarray]:
    """The table of the epochs: loss, rate and validation metrics."""
    with h5py.File(folder / "run.h5") as file:
        return {name: column[:] for name, column in file[f"phases/{phase}/epochs"].items()}


def metrics(folder: Path, phase: str = "test") -> dict[str, np.ndarray]:
    """What an evaluate phase found: numbers and arrays by name."""
    with h5py.File(folder / "run.h5") as file:
        return numbers(file[f"phases/{phase}/metrics"])


def weights(folder: Path, phase: str = "net") -> dict[str, np.ndarray]:
    """Parameters and buffers of a phase's network."""
    with h5py.File(folder / "networks" / f"{phase}.h5") as file:
        return numbers(file["weights"])


def engine(folder: Path, phase: str = "net") -> str:
    """Who summed the gradients, and why."""
    with h5py.File(folder / "run.h5") as file:
        return file[f"phases/{phase}/gradients"][()].decode()


def numbers(group: h5py.Group) -> dict[str, np.ndarray]:
    """The datasets of a group by name."""
    return {name: one[()] for name, one in group.items()}


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Equal names and equal numbers to the last bit."""
    assert one.keys() == other.keys()
    assert one, "there is nothing to compare"
    differing = [name for name in one if np.asarray(one[name]).tobytes() != np.asarray(other[name]).tobytes()]
    assert not differing


def assert_same_run(one: Path, other: Path, phase: str = "net") -> None:
    """The same step losses, epochs and weights to the last bit."""
    assert_same_bits({"loss": losses(one, phase)}, {"loss": losses(other, phase)})
    assert_same_bits(epochs(one, phase), epochs(other, phase))
    assert_same_bits(weights(one, phase), weights(other, phase))
