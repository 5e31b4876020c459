"""Pruning: every method on every grid, rounds, networks pruned again and trained on, what a later phase finds."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from app.storage.networks import read_network
from tests.launch import ALONE, completed
from tests.runs import made, outcome

GRIDS = {"1x1": (ALONE, 1), "2x1": (2, 1), "1x2": (2, 2), "2x2": (4, 2)}
RESNET = {"kind": "resnet", "blocks": [1], "width": 8, "norm": "batch"}
TRAINS = {"batch_size": 20, "microbatch_size": 6, "optimizer": "sgd", "rate": 0.02, "epochs": 1}
SPARSITY = {"method": "sparsity", "penalty_epochs": 1}
EFFECT = {"method": "effect", "batches": 3}
SCAN = {"method": "effect", "measure": "scan", "levels": 3}


class Case(NamedTuple):
    """A prune phase of the network of phase "net", and the grid that it is played on beside 1x1."""

    keys: dict[str, Any]
    grid: str


CHANNELS = {
    "magnitude": Case({"remove": 0.5}, ""),
    "l1": Case({"remove": 0.4, "norm": "l1", "ranking": "layer", "target": "parameters"}, "1x2"),
    "lasso": Case({**SPARSITY, "strength": 1.4}, "2x2"),
    "lasso-share": Case({**SPARSITY, "strength": 0.05, "remove": 0.5, "round_to": 2}, "2x1"),
    "growing": Case({**SPARSITY, "penalty": "growing", "remove": 0.5}, "1x2"),
    "scale": Case({**SPARSITY, "penalty": "scale", "strength": 1.0, "remove": 0.3, "target": "units"}, "1x2"),
    "taylor": Case({**EFFECT, "remove": 0.5}, "2x2"),
    "scan": Case({**SCAN, "remove": 0.5}, "2x1"),
    "random": Case({"method": "random", "remove": 0.5, "rounds": 2, "growth": "linear"}, ""),
}
THIN, FOURS = {"units": "connections"}, {"units": "2:4"}
CONNECTIONS = {
    "thin": Case({**THIN, "remove": 0.9}, "1x2"),
    "thin-layer": Case({**THIN, "remove": 0.75, "ranking": "layer", "keep_layers": ["stem"]}, "2x1"),
    "thin-lasso": Case({**THIN, **SPARSITY, "strength": 0.3}, "2x2"),
    "thin-growing": Case({**THIN, **SPARSITY, "penalty": "growing", "remove": 0.6}, "1x2"),
    "thin-taylor": Case({**THIN, **EFFECT, "remove": 0.8}, "2x2"),
    "thin-random": Case({**THIN, "method": "random", "remove": 0.7, "rounds": 2}, ""),
    "fours": Case({**FOURS}, ""),
    "fours-lasso": Case({**FOURS, **SPARSITY, "strength": 0.05}, "2x1"),
    "fours-growing": Case({**FOURS, **SPARSITY, "penalty": "growing"}, ""),
    "fours-taylor": Case({**FOURS, **EFFECT}, "1x2"),
    "fours-random": Case({**FOURS, "method": "random"}, ""),
}
LATER = {  # phases that go on from a pruned network, in the file of that network
    "again": {"kind": "prune", "network": "magnitude", "remove": 0.3, "round_to": 1},
    "trained": {"kind": "train", "network": "magnitude"},
    "thinner": {"kind": "prune", "network": "thin", "remove": 0.5, "round_to": 1, "epochs": 0},
    "thin-trained": {"kind": "train", "network": "thin", "optimizer": "adam", "epsilon": 1e-3},  # rounding stays small
}
FILES = {"channels": CHANNELS, "connections": CONNECTIONS, "both": CHANNELS | CONNECTIONS}
ALL = ("channels", "connections")


def write(folder: Path, kind: str, grid: str) -> Path:
    """The input file of those cases that are played on a grid."""
    cases = {name: case.keys for name, case in FILES[kind].items() if grid in ("1x1", case.grid)}
    phases = [
        {"kind": "prune", "name": name, "network": "net", "round_to": 1, **TRAINS, **cases[name]} for name in cases
    ]
    phases += [{"name": name, **TRAINS, **keys} for name, keys in LATER.items() if keys["network"] in cases]
    inputs = made.features(4, 6, 6)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    train = {"optimizer": "sgd", "rate": 0.05}
    file = made.write_input(folder / "input.toml", RESNET, train, {"file": "data.h5"}, after=phases)
    file.write_text(file.read_text().replace('name = "test"', 'name = "test"\nnetwork = "all"\npart = "validation"'))
    return file


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Runs, each made once: play(kind, grid) is the folder and what was printed."""

    @cache
    def once(kind: str, grid: str) -> tuple[Path, str]:
        file = write(tmp_path_factory.mktemp("prune"), kind, grid)
        ranks, stages = GRIDS[grid]
        text = completed(file, ranks, f"grid.stages={stages}", "run.measure=0")
        return file.with_suffix(""), text

    return once


def table(folder: Path, *place: str) -> dict[str, Any]:
    """Numbers and groups of a table of run.h5."""
    with h5py.File(folder / "run.h5") as file:
        return tree(file["/".join(("phases", *place))])


def tree(group: h5py.Group) -> dict[str, Any]:
    return {name: tree(one) if isinstance(one, h5py.Group) else one[()] for name, one in group.items()}


def kept(folder: Path, phase: str) -> dict[str, list[list[int]]]:
    """By round and group the units that stay."""
    rounds = table(folder, phase)
    return {
        name: {group: units.tolist() for group, units in one["kept"].items()}
        for name, one in rounds.items()
        if name.startswith("round") and name != "rounds"
    }


def weights(folder: Path, phase: str) -> dict[str, np.ndarray]:
    """Those of a stored network, dense."""
    stored = read_network(folder / "networks" / f"{phase}.h5").weights
    return {name: tensor.numpy() for name, tensor in stored.items()}


def thinned(folder: Path, phase: str) -> dict[str, np.ndarray]:
    """Its weights of linear and convolutional layers."""
    return {name: one for name, one in weights(folder, phase).items() if one.ndim > 1}


def shapes(folder: Path, phase: str) -> dict[str, tuple[int, ...]]:
    return {name: one.shape for name, one in weights(folder, phase).items()}


RUNS = [(kind, name, case.grid) for kind in ALL for name, case in FILES[kind].items() if case.grid]
RUNS += [(kind, name, grid) for name, keys in LATER.items() for kind, of, grid in RUNS if of == keys["network"]]


@pytest.mark.parametrize(("kind", "name", "grid"), RUNS)
def test_the_same_network_on_every_grid(kind, name, grid, play):
    found, alone = play("both", grid)[0], play(kind, "1x1")[0]
    assert shapes(found, name) == shapes(alone, name)
    if "rounds" in table(alone, name):
        if kind == "channels":
            assert kept(found, name) == kept(alone, name)
        rounds, expected = table(found, name, "rounds"), table(alone, name, "rounds")
        assert rounds.keys() == expected.keys()
        for column in rounds.keys() - {"samples_per_s"}:
            np.testing.assert_allclose(rounds[column], expected[column], rtol=1e-4, atol=1e-6, err_msg=column)
    for side in ("after", "before")[: 1 if name in ("trained", "thin-trained") else 2]:
        numbers, expected = (table(folder, name, "appraisal", side) for folder in (found, alone))
        for what in ("loss", "accuracy", "parameters", "nonzero", "operations", "bytes"):
            assert numbers[what] == pytest.approx(expected[what], rel=1e-4), f"{what} {side}"
    own, expected = weights(found, name), weights(alone, name)
    for tensor, values in own.items():
        np.testing.assert_allclose(values, expected[tensor], rtol=1e-3, atol=1e-5, err_msg=tensor)
        if kind == "connections":
            assert ((values != 0) == (expected[tensor] != 0)).all(), f"other connections of {tensor} are left"


@pytest.mark.parametrize("name", CHANNELS)
def test_what_was_asked_for_is_gone(name, play):
    folder, text = play("channels", "1x1")
    keys = CHANNELS[name].keys
    target, rounds = keys.get("target", "operations"), table(folder, name, "rounds")
    assert (np.diff([rounds[f"dense_{target}"][0], *rounds[target]]) < 0).all()
    if "remove" in keys:
        assert rounds[target][-1] <= (1 - keys["remove"]) * rounds[f"dense_{target}"][-1]
        assert f"% of the {target} are gone" in text
    before, after = (table(folder, name, "appraisal", side) for side in ("before", "after"))
    assert after["operations"] == rounds["operations"][-1] < before["operations"] == rounds["dense_operations"][0]
    assert after["parameters"] == rounds["parameters"][-1] < before["parameters"] == rounds["dense_parameters"][0]
    own, first = shapes(folder, name), shapes(folder, "net")
    left = list(kept(folder, name).values())[-1]
    assert own["group1block1.convolution1.weight"][0] == len(left["group1block1.convolution1"])
    assert own["head.linear.weight"] == (3, own["stem.convolution.weight"][0])
    assert sum(len(units) for units in left.values()) == rounds["units"][-1]
    assert own.keys() == first.keys()
    assert own["head.linear.bias"] == first["head.linear.bias"]


def test_widths_are_rounded(play):
    own = shapes(play("channels", "1x1")[0], "lasso-share")
    assert own["stem.convolution.weight"][0] % 2 == 0
    assert own["group1block1.convolution1.weight"][0] % 2 == 0


def test_methods_choose_differently(play):
    folder = play("channels", "1x1")[0]
    chosen = {name: str(kept(folder, name)["round1"]) for name in ("magnitude", "taylor", "scan", "random")}
    assert len(set(chosen.values())) == len(chosen)


def test_the_scan_is_told(play):
    rises = table(play("channels", "1x1")[0], "scan", "round1", "rise_of_loss")
    assert rises.keys() == {"group1block1.convolution1", "stem.convolution"}
    assert all(rise.shape == (4,) and rise[0] == 0 and rise[1:].any() for rise in rises.values())


@pytest.mark.parametrize("name", [name for name, case in CONNECTIONS.items() if "remove" in case.keys])
def test_the_share_of_the_connections_is_zero(name, play):
    folder = play("connections", "1x1")[0]
    keys, own, rounds = CONNECTIONS[name].keys, thinned(folder, name), table(folder, name, "rounds")
    own = {tensor: one for tensor, one in own.items() if tensor.partition(".")[0] not in keys.get("keep_layers", ())}
    total, left = sum(one.size for one in own.values()), sum(np.count_nonzero(one) for one in own.values())
    assert rounds["connections"][-1] == total
    assert rounds["connections_left"][-1] == left
    wanted = [one.size for one in own.values()] if keys.get("ranking") == "layer" else [total]
    assert total - left == sum(int(np.ceil(keys["remove"] * size)) for size in wanted)
    assert shapes(folder, name) == shapes(folder, "net")


def test_what_lasso_made_zero_is_gone(play):
    folder = play("connections", "1x1")[0]
    left, total = (sum(map(count, thinned(folder, "thin-lasso").values())) for count in (np.count_nonzero, np.size))
    assert 0.05 * total < left < 0.95 * total
    assert table(folder, "thin-lasso", "rounds")["connections_left"][-1] == left


def test_layers_that_are_kept_lose_nothing(play):
    own = thinned(play("connections", "1x1")[0], "thin-layer")
    assert np.count_nonzero(own["stem.convolution.weight"]) == own["stem.convolution.weight"].size


@pytest.mark.parametrize("name", [name for name in CONNECTIONS if name.startswith("fours")])
def test_two_of_four_input_channels_are_zero(name, play):
    for tensor, one in thinned(play("connections", "1x1")[0], name).items():
        fours = np.moveaxis(one, 1, -1).reshape(-1, 4)
        assert (np.count_nonzero(fours, 1) == 2).all(), tensor


@pytest.mark.parametrize(("before", "after"), [("thin", "thin-trained"), ("thin", "thinner")])
def test_connections_stay_zero(before, after, play):
    folder = play("connections", "1x1")[0]
    if after == "thinner":
        assert (
            table(folder, after, "appraisal", "after")["nonzero"]
            < table(folder, before, "appraisal", "after")["nonzero"]
        )
        assert shapes(folder, after) != shapes(folder, before)
        assert sum(map(np.count_nonzero, thinned(folder, after).values())) > 0
        return
    old, new = thinned(folder, before), thinned(folder, after)
    assert all(((one != 0) == (new[tensor] != 0)).all() for tensor, one in old.items())
    assert any(not np.array_equal(one, new[tensor]) for tensor, one in old.items()), "the others are trained"


def test_a_pruned_network_is_pruned_again_and_trained_on(play):
    folder = play("channels", "1x1")[0]
    first, second = (table(folder, name, "rounds") for name in ("magnitude", "again"))
    assert second["dense_operations"][0] == first["operations"][-1]
    assert second["operations"][-1] <= 0.7 * first["operations"][-1]
    left = kept(folder, "magnitude")["round1"], kept(folder, "again")["round1"]
    assert all(max(units) < len(left[0][group]) for group, units in left[1].items())
    assert shapes(folder, "trained") == shapes(folder, "magnitude")
    assert len(outcome.losses(folder, "trained")) == 5


def test_the_share_grows_over_the_rounds(play):
    rounds = table(play("channels", "1x1")[0], "random", "rounds")
    assert rounds["round"].tolist() == [1, 2]
    assert rounds["dense_operations"][0] == rounds["dense_operations"][1]
    halves = rounds["operations"] / rounds["dense_operations"]
    assert 0.5 < halves[0] <= 0.75
    assert halves[1] <= 0.5


@pytest.mark.parametrize("kind", ALL)
def test_what_is_stored_is_what_was_found(kind, play):
    """An evaluate phase on the validation part, against what each phase said of its own network."""
    folder, _ = play(kind, "1x1")
    found = table(folder, "test", "networks")
    names = {"net", *FILES[kind], *(name for name, keys in LATER.items() if keys["network"] in FILES[kind])}
    assert found.keys() == names
    for name, one in found.items():
        own = table(folder, name, "appraisal", "after")
        assert one["metrics"]["loss"] == pytest.approx(own["loss"], rel=1e-6)
        assert one["metrics"]["accuracy"] == own["accuracy"]


@pytest.mark.parametrize(
    ("kind", "grid"), [*((kind, "1x1") for kind in ALL), *(("both", grid) for grid in GRIDS if grid != "1x1")]
)
def test_nothing_is_left_to_go_on_from(kind, grid, play):
    folder = play(kind, grid)[0]
    assert not list(folder.rglob("*.part"))
    assert not any(path.is_file() for path in (folder / "checkpoints").rglob("*"))
    assert not list((folder / "checkpoints").iterdir())
