"""inputs/digits.toml: the same numbers on any number of ranks, the same bits on the same number."""

import numpy as np
import pytest

from tests.launch import ALONE, TREE, completed
from tests.runs import outcome

FILE = TREE / "inputs" / "digits.toml"
STEPS = 20  # of an epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole runs of the input file, each made once: whole(ranks) is the run folder."""
    folders = {}

    def once(ranks):
        if ranks not in folders:
            folders[ranks] = tmp_path_factory.mktemp("digits") / str(ranks)
            completed(FILE, ranks, f"run.folder={folders[ranks]}")
        return folders[ranks]

    return once


@pytest.fixture
def short(tmp_path):
    """Runs of one epoch with other settings: short(name, ranks, KEY=VALUE, ...) is the run folder."""

    def make(name, ranks, *settings):
        completed(FILE, ranks, f"run.folder={tmp_path / name}", "phase.teacher.epochs=1", *settings)
        return tmp_path / name

    return make


def accuracy(folder):
    return float(outcome.metrics(folder, "teacher-test")["accuracy"])


def test_the_demo_learns(whole):
    assert accuracy(whole(2)) >= 0.97


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_same_numbers_on_any_number_of_ranks(whole, ranks):
    one, several = outcome.losses(whole(1), "teacher"), outcome.losses(whole(ranks), "teacher")
    assert len(one) == len(several) == 20 * STEPS
    np.testing.assert_allclose(several[:STEPS], one[:STEPS], rtol=1e-4)
    np.testing.assert_allclose(several, one, rtol=0.1, atol=1e-4)
    assert abs(accuracy(whole(ranks)) - accuracy(whole(1))) <= 0.005


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_same_bits_on_the_same_number_of_ranks(short, ranks):
    first, second = short("first", ranks), short("second", ranks)
    outcome.assert_same_run(first, second, "teacher")
    outcome.assert_same_bits(outcome.metrics(first, "teacher-test"), outcome.metrics(second, "teacher-test"))


def test_without_mpirun_it_is_the_same(short):
    threads = "run.threads=1"  # mpirun may bind a rank to one core, and the number of threads changes the last bits
    outcome.assert_same_run(short("alone", ALONE, threads), short("launched", 1, threads), "teacher")


def test_horovod_and_mpi_agree_and_horovod_repeats(short):
    pytest.importorskip("horovod", reason="Horovod is not installed")
    ranks = 3  # from here on the order of a sum matters
    by_mpi = short("mpi", ranks, "grid.allreduce=mpi")
    by_horovod = short("horovod", ranks, "grid.allreduce=horovod")
    again = short("again", ranks, "grid.allreduce=horovod")
    assert outcome.engine(by_mpi, "teacher").startswith("mpi")
    assert outcome.engine(by_horovod, "teacher").startswith("horovod")
    outcome.assert_same_run(by_horovod, again, "teacher")
    np.testing.assert_allclose(outcome.losses(by_horovod, "teacher"), outcome.losses(by_mpi, "teacher"), rtol=1e-5)
