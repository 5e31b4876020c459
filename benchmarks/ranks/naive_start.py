"""One optimizer step of the digits as one writes it without a thought for the start: benchmarks.startup's peer."""

from pathlib import Path

import h5py
import horovod.torch as hvd
import torch
from mpi4py import MPI
from torch import nn

DATA = Path(__file__).parents[2] / "inputs" / "digits.h5"
BATCH = 64


def main() -> None:
    hvd.init()
    rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    with h5py.File(DATA) as file:
        images, labels = file["images"][:], file["labels"][:]
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    hvd.broadcast_parameters(network.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=network.named_parameters())
    own = slice(rank, BATCH, size)
    outputs = network(torch.from_numpy(images[own]).float().unsqueeze(1) / 16)
    nn.functional.cross_entropy(outputs, torch.from_numpy(labels[own])).backward()
    optimizer.step()
    if rank == 0:
        print("first step done", flush=True)


if __name__ == "__main__":
    main()
