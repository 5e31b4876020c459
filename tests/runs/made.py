"""Small synthetic data and input files, made by the tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SAMPLES = 120
SEED = 5


def write_data(file: Path, inputs: np.ndarray, targets: np.ndarray) -> Path:
    """An HDF5 file in chunks of seven samples, so that blocks and batches do not meet."""
    with h5py.File(file, "w") as h5:
        for name, array in (("x", inputs), ("y", targets)):
            h5.create_dataset(name, data=array, chunks=(min(7, len(array)), *array.shape[1:]))
    return file


def features(*shape: int, samples: int = SAMPLES, offset: int = 0) -> np.ndarray:
    """Normal numbers (samples, *shape) float32."""
    return np.random.default_rng(offset + 1).normal(0.5, 2.0, (samples, *shape)).astype(np.float32)


def tokens(length: int, vocabulary: int, samples: int = SAMPLES) -> np.ndarray:
    """Numbers below the vocabulary (samples, length) int64."""
    return np.random.default_rng(2).integers(0, vocabulary, (samples, length))


def labels(inputs: np.ndarray, classes: int = 3) -> np.ndarray:
    """Classes that a network can learn from the inputs (samples,) int64."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    projected = flat @ np.random.default_rng(3).normal(size=flat.shape[1])
    return np.digitize(projected, np.quantile(projected, np.arange(1, classes) / classes))


def values(inputs: np.ndarray, width: int = 2) -> np.ndarray:
    """Targets of a regression (samples, width) float32."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    return np.tanh(flat @ np.random.default_rng(4).normal(size=(flat.shape[1], width)) / 3).astype(np.float32)


def write_input(
    file: Path,
    network: Mapping[str, Any],
    train: Mapping[str, Any],
    data: Mapping[str, Any],
    before: Sequence[Mapping[str, Any]] = (),
    after: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """An input file with a phase "net" that trains and a phase "test" that evaluates it; phases `before` come first,
    those `after` it between the two.

    Batches of 20 in microbatches of 6: microbatches and the last batch are uneven.
    """
    trains = {
        "kind": "train",
        "name": "net",
        "epochs": 2,
        "batch_size": 20,
        "microbatch_size": 6,
        "rate": 0.01,
        **train,
    }
    tables = [
        ("[run]", {"name": "made", "seed": SEED, "folder": str(file.with_suffix(""))}),
        ("[data]", {"inputs": "x", "targets": "y", "validation": 0.1, "test": 0.1, **data}),
        ("[network]", network),
        *(("[[phase]]", phase) for phase in (*before, trains, *after)),
        ("[[phase]]", {"kind": "evaluate", "name": "test", "batch_size": 9, "microbatch_size": 2, "top_k": [2]}),
    ]
    lines = [line for title, table in tables for line in (title, *map(_line, table.items()), "")]
    file.write_text("\n".join(lines))
    return file


def _line(pair: tuple[str, Any]) -> str:
    return f"{pair[0]} = {_text(pair[1])}"


def _text(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(map(_line, value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return repr(value)
