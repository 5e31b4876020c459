"""One process that prunes and fine-tunes as a user of torch-pruning does, and times what came of it beside ours.

    python -m benchmarks.ranks.prune_peer RUN_FOLDER EPOCHS SHARE ROUNDS

RUN_FOLDER holds networks/teacher.h5, the network both start from, and networks/by-weight.h5, what ours made of it.
Prints one JSON object.
"""

import json
import statistics
import sys
import time
from copy import deepcopy
from pathlib import Path

import h5py
import torch
import torch_pruning as tp
from torch import nn

from app.data.split import Split
from app.data.statistics import Statistics
from app.data.transform import Transform
from app.networks import build
from app.storage.networks import read_network
from benchmarks.interleave import rotated

TREE = Path(__file__).parents[2]
SEED, RATE, EPSILON, BATCH = 7, 3e-3, 1e-4, 64
SIZES = (1, 16)


def main() -> None:
    folder, epochs, share, rounds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    torch.manual_seed(0)
    parts = samples(folder / "networks" / "teacher.h5")
    dense, ours = (load(folder / "networks" / f"{name}.h5") for name in ("teacher", "by-weight"))
    networks = {"dense": dense, "ours": ours}
    for name, round_to in (("torch-pruning", None), ("torch-pruning, round_to 16", 16)):
        network = pruned(load(folder / "networks" / "teacher.h5"), share, round_to, parts["train"][0][:1])
        fine_tune(network, *parts["train"], epochs)
        networks[name] = network
    torch.set_num_threads(1)
    test = parts["test"]
    found = {name: {"operations": operations(n), "accuracy": accuracy(n, *test)} for name, n in networks.items()}
    for size in SIZES:
        for name, times in latencies(networks, test[0][:size], rounds).items():
            found[name][f"seconds_{size}"] = times
    print(json.dumps(found))


def load(file: Path) -> nn.Sequential:
    """A network of a run."""
    stored = read_network(file)
    network = build.build(build.from_architecture(stored.architecture), 0)
    network.load_state_dict(stored.weights)
    return network


def samples(file: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The training and the test part, standardised with the constants in a network's file."""
    statistics_ = Statistics.from_tree(read_network(file).extras["data"])
    transform = Transform(add_channel=True, statistics=statistics_)
    with h5py.File(TREE / "inputs" / "digits.h5") as data:
        inputs, targets = data["images"][:], data["labels"][:]
    split = Split(len(inputs), 0.1, 0.2, SEED)
    members = {part: split.members(part, 0, len(inputs)) for part in ("train", "test")}
    return {part: (transform.inputs_(inputs[own]), transform.targets_(targets[own])) for part, own in members.items()}


def pruned(network: nn.Sequential, share: float, round_to: int | None, example: torch.Tensor) -> nn.Sequential:
    """By torch-pruning's own pruner, global ranking, with the smallest ratio of channels that removes the share."""
    whole = operations(network)
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        cut = prune_once(network, middle, round_to, example)
        low, high = (low, middle) if operations(cut) <= (1 - share) * whole else (middle, high)
    return prune_once(network, high, round_to, example)


def prune_once(network: nn.Sequential, ratio: float, round_to: int | None, example: torch.Tensor) -> nn.Sequential:
    copy = deepcopy(network)
    pruner = tp.pruner.MagnitudePruner(
        copy,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,
        ignored_layers=[copy.head.linear],
        round_to=round_to,
    )
    pruner.step()
    return copy


def operations(network: nn.Sequential) -> float:
    """Multiply-adds of convolutions and linear layers for one 8x8 image, times two."""
    counts = [0]

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        counts[0] += 2 * module.weight.numel() * output[0].numel() // output.shape[1]

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    return counts[0]


def fine_tune(network: nn.Sequential, inputs: torch.Tensor, targets: torch.Tensor, epochs: int) -> None:
    """The usual loop, with the settings of our phase."""
    steps = -(-len(inputs) // BATCH) * epochs
    optimizer = torch.optim.AdamW(network.parameters(), RATE, eps=EPSILON, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def accuracy(network: nn.Sequential, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float((network.eval()(inputs).argmax(1) == targets).float().mean())


@torch.inference_mode()
def latencies(networks: dict[str, nn.Sequential], inputs: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of a forward pass: of each round the median of five, the networks in turn."""
    found: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds):
        for name in rotated(list(networks), number):
            network = networks[name].eval()
            network(inputs)
            found[name].append(statistics.median(timed(network, inputs) for _ in range(5)))
    return found


def timed(network: nn.Sequential, inputs: torch.Tensor) -> float:
    begin = time.perf_counter()
    network(inputs)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
