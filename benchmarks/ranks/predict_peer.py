"""The usual way to apply a network to a file: a map-style dataset, torch's DataLoader, a loop; started by predict.py.

    python -m benchmarks.ranks.predict_peer NETWORK SAMPLES OUT WORKERS

prints one JSON object: seconds from the first batch asked for to the file written, without imports and building.
"""

import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from app.networks.build import build, from_architecture
from app.storage.networks import read_network

BATCH = 256  # as large as our microbatches


class PerSample(Dataset):
    """One h5py read a sample; the file is opened by whoever reads, as workers must not share it."""

    def __init__(self, file: Path) -> None:
        self._file, self._samples = file, None
        with h5py.File(file) as opened:
            self._length = len(opened["x"])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> torch.Tensor:
        if self._samples is None:
            self._samples = h5py.File(self._file)["x"]
        return torch.from_numpy(self._samples[number])


def network_of(file: Path) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network of a train phase with the constants of its data."""
    stored = read_network(file)
    network = build(from_architecture(stored.architecture), seed=0)
    network.load_state_dict(stored.weights)
    constants = stored.extras["data"]
    return network.eval(), *(torch.from_numpy(np.asarray(constants[name])) for name in ("mean", "std"))


def main() -> None:
    torch.set_num_threads(1)
    network, mean, std = network_of(Path(sys.argv[1]))
    loader = DataLoader(PerSample(Path(sys.argv[2])), batch_size=BATCH, num_workers=int(sys.argv[4]))
    labels, probabilities = [], []
    begun = time.perf_counter()
    with torch.inference_mode():
        for inputs in loader:
            outputs = network((inputs.float() - mean) / std)
            labels.append(outputs.argmax(1).numpy())
            probabilities.append(outputs.softmax(1).numpy())
    with h5py.File(sys.argv[3], "w") as out:
        out["labels"], out["probabilities"] = np.concatenate(labels), np.concatenate(probabilities)
    print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    main()
