"""A network applied to samples in memory, nothing read and nothing written: what the cores give; started by predict.py.

    python -m benchmarks.ranks.predict_ceiling NETWORK SAMPLES COUNT

says "ready", waits for a line, and prints one JSON object: seconds for COUNT samples in batches of 256.
"""

import json
import sys
import time
from pathlib import Path

import h5py
import torch

from app.phases.predict.pooling import pooling_faster
from benchmarks.ranks.predict_peer import BATCH, network_of


def main() -> None:
    torch.set_num_threads(1)
    network, mean, std = network_of(Path(sys.argv[1]))
    with h5py.File(sys.argv[2]) as file:
        stored = torch.from_numpy(file["x"][:BATCH])
    with torch.inference_mode(), pooling_faster([network], torch.device("cpu")):
        for _ in range(10):
            network((stored.float() - mean) / std)
        print("ready", flush=True)
        sys.stdin.readline()
        begun = time.perf_counter()
        for _ in range(int(sys.argv[3]) // BATCH):
            network((stored.float() - mean) / std)
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    main()
