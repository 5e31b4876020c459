"""These tests run where torch sees an accelerator; elsewhere each is skipped, and says so."""

import pytest
import torch

from tests.launch import ALONE, TREE, completed

EPOCHS = 2
# Dropout draws other numbers on other devices; everything else is to be the same.
SHORT = (f"phase.teacher.epochs={EPOCHS}", "network.dropout=0", "run.measure=0.3")


def pytest_collection_modifyitems(items):
    if not torch.accelerator.is_available():
        why = f"torch {torch.__version__} sees no accelerator on this machine"
        for item in items:
            if "gpu" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def kind():
    """ "cuda" and the like."""
    return torch.accelerator.current_accelerator().type


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Runs the start of inputs/digits.toml with some settings: the run folder, and what was printed. Kept."""
    done = {}

    def run(*settings, ranks=ALONE):
        if (settings, ranks) not in done:
            folder = tmp_path_factory.mktemp("digits") / "run"
            file = TREE / "inputs" / "digits.toml"
            chosen = (f"run.folder={folder}", "run.threads=1", *SHORT, *settings)
            done[settings, ranks] = folder, completed(file, ranks, *chosen, options=("--until", "teacher-test"))
        return done[settings, ranks]

    return run
