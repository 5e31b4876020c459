"""A network with a quantum layer, and inputs/hybrid.toml: the same numbers on 1, 2 and 4 ranks, in 1 and 2 stages;
pruned; taught; beside a twin.
"""

import numpy as np
import pytest

from tests.launch import ALONE, TREE, completed
from tests.runs import made, outcome

FILE = TREE / "inputs" / "hybrid.toml"
STEPS = 20  # of an epoch of it
# ranks and stages: 1x1, 2x1, 4x1, 1x2, 2x2
GRIDS = {"alone": (ALONE, 1), "two": (2, 1), "four": (4, 1), "stages": (2, 2), "both": (4, 2)}
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


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Run folders of two epochs of inputs/hybrid.toml, by grid."""
    folders = {}
    for name, (ranks, stages) in GRIDS.items():
        folders[name] = tmp_path_factory.mktemp("hybrid") / name
        epochs = ("phase.hybrid.epochs=2", "phase.classical.epochs=2", "run.measure=0.05")
        completed(FILE, ranks, f"run.folder={folders[name]}", f"grid.stages={stages}", "run.threads=1", *epochs)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["hybrid", "classical"])
def test_the_hybrid_of_the_digits_has_one_loss_curve(short, phase):
    first = outcome.losses(short["alone"], phase)
    assert len(first) == 2 * STEPS
    assert first[-1] < first[0]
    for name in GRIDS:
        np.testing.assert_allclose(outcome.losses(short[name], phase), first, rtol=1e-4, err_msg=name)
        losses = outcome.epochs(short[name], phase)["validation_loss"]
        np.testing.assert_allclose(losses, outcome.epochs(short["alone"], phase)["validation_loss"], rtol=1e-4)


def test_pruned_and_taught_beside_a_twin(tmp_path):
    completed(input_file(tmp_path, AFTER), ALONE, f"run.folder={tmp_path / 'on1'}", "run.threads=1")
    angles = outcome.weights(tmp_path / "on1", "pruned")["quantum2.circuit.angles"]
    assert angles.shape == (2, 3, 3)
    assert 0 < np.count_nonzero(angles) < angles.size
    assert outcome.weights(tmp_path / "on1", "twin").keys() == {
        f"{layer}.linear.{name}" for layer in ("dense1", "output") for name in ("weight", "bias")
    }
    assert len(outcome.losses(tmp_path / "on1", "taught")) == 5
