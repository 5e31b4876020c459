"""A network with a quantum layer: the same numbers on 1 and 2 ranks and in 2 stages; pruned; taught; beside a twin."""

import numpy as np

from tests.launch import ALONE, completed
from tests.runs import made, outcome

QUANTUM = {"kind": "quantum", "qubits": 3, "layers": 2, "reupload": True, "measure": ["Z0", "X1", "Z1 Z2"]}
NETWORK = {"kind": "layers", "layers": [{"kind": "dense", "width": 3, "activation": "tanh"}, QUANTUM]}
TWIN = {"kind": "layers", "layers": [{"kind": "dense", "width": 3, "activation": "tanh"}]}
SHORT = {"epochs": 1, "batch_size": 20, "microbatch_size": 6}
BEFORE = [{"kind": "train", "name": "twin", "architecture": TWIN, **SHORT}]
AFTER = [
    {"kind": "prune", "name": "pruned", "network": "net", "units": "connections", "remove": 0.6, **SHORT},
    {"kind": "distill", "name": "taught", "teacher": "net", "student": NETWORK, **SHORT},
]


def input_file(folder, after=()):
    inputs = made.features(4, 4)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    train = {"rate": 0.05, "network": "new"}
    return made.write_input(folder / "input.toml", NETWORK, train, {"file": "data.h5"}, BEFORE, after)


def test_same_numbers_on_ranks_and_stages(tmp_path):
    file = input_file(tmp_path)
    grids = {"alone": (ALONE, 1), "replicas": (2, 1), "stages": (2, 2)}
    for name, (ranks, stages) in grids.items():
        completed(file, ranks, f"run.folder={tmp_path / name}", f"grid.stages={stages}", "run.threads=1")
    first = outcome.losses(tmp_path / "alone")
    assert len(first) == 2 * 5
    for name in ("replicas", "stages"):
        np.testing.assert_allclose(outcome.losses(tmp_path / name), first, rtol=1e-4, err_msg=name)


def test_pruned_and_taught_beside_a_twin(tmp_path):
    completed(input_file(tmp_path, AFTER), ALONE, f"run.folder={tmp_path / 'on1'}", "run.threads=1")
    angles = outcome.weights(tmp_path / "on1", "pruned")["quantum2.circuit.angles"]
    assert angles.shape == (2, 3, 3)
    assert 0 < np.count_nonzero(angles) < angles.size
    assert outcome.weights(tmp_path / "on1", "twin").keys() == {
        f"{layer}.linear.{name}" for layer in ("dense1", "output") for name in ("weight", "bias")
    }
    assert len(outcome.losses(tmp_path / "on1", "taught")) == 5
