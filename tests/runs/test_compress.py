"""inputs/compress.toml, with a narrower network: what it prunes, teaches and compares, and the picture of it."""

import h5py
import pytest

from app.cli import main
from tests.launch import TREE, completed
from tests.runs import outcome

FILE = TREE / "inputs" / "compress.toml"
PRUNED = ("by-weight", "by-sparsity", "by-effect", "at-random", "unrounded")
NETWORKS = ("teacher", *PRUNED, *(f"{name}-taught" for name in PRUNED if name != "at-random"), "student")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run folder and log on two ranks."""
    folder = tmp_path_factory.mktemp("compress") / "run"
    text = completed(FILE, 2, f"run.folder={folder}", "network.width=32", "run.measure=0.1", "run.threads=1")
    return folder, text


def operations(folder, name):
    with h5py.File(folder / "run.h5") as file:
        return float(file[f"phases/{name}/appraisal/after/operations"][()])


def accuracy(folder, name):
    with h5py.File(folder / "run.h5") as file:
        return float(file[f"phases/compared/networks/{name}/metrics/accuracy"][()])


def test_nine_tenths_of_the_operations_are_gone(ran):
    whole = operations(ran[0], "teacher")
    for name in PRUNED:
        assert 0.05 * whole < operations(ran[0], name) <= 0.1 * whole, name


def test_widths_are_rounded_unless_that_is_unwanted(ran):
    widths = {
        name: {len(weight) for key, weight in outcome.weights(ran[0], name).items() if "convolution" in key}
        for name in PRUNED
    }
    assert all(width % 4 == 0 for name in PRUNED if name != "unrounded" for width in widths[name])
    assert any(width % 4 for width in widths["unrounded"])


def test_every_network_is_compared_and_the_taught_ones_are_good(ran):
    folder, text = ran
    table = text[text.rindex("test accuracy") :]
    assert all(f"\n{' ' * 28}{name} " in table for name in NETWORKS)
    assert accuracy(folder, "teacher") >= 0.97
    for name in ("by-sparsity", "by-effect", "by-weight"):
        assert accuracy(folder, f"{name}-taught") >= 0.93, name


def test_the_report_draws_them(ran, capsys):
    assert main(["report", str(ran[0])]) == 0
    assert "networks.png" in capsys.readouterr().out
    assert (ran[0] / "report" / "networks.png").read_bytes().startswith(b"\x89PNG")
