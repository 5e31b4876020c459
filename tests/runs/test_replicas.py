"""Replicas whose weights drift apart end the run on every rank."""

from pathlib import Path

from tests.launch import run

DIGITS = Path(__file__).parents[2] / "inputs" / "digits.h5"
INPUT = f"""
[run]
name = "drift"
[data]
file = "{DIGITS}"
inputs = "images"
targets = "labels"
[network]
kind = "drifting.py:build"
[[phase]]
kind = "train"
name = "first"
epochs = 2
"""
DRIFT = '''
from torch import nn
import torch
from mpi4py import MPI


class Drifting(nn.Linear):
    """Rank 1 loses a bit in the middle of training."""

    calls = 0

    def forward(self, inputs):
        if self.training:
            Drifting.calls += 1
            if Drifting.calls == 5 and MPI.COMM_WORLD.rank == 1:
                with torch.no_grad():
                    self.bias[0] += 1e-3
        return super().forward(inputs)


def build(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), Drifting(64, outputs))
'''


def test_a_replica_that_drifts_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "drifting.py").write_text(DRIFT)
    (tmp_path / "job.toml").write_text(INPUT)
    ended = run(tmp_path / "job.toml", 2, f"run.folder={tmp_path / 'results'}")
    assert ended.code == 1, ended.text
    assert "the replicas' weights differ after epoch 1" in ended.text
    assert "Traceback" not in ended.text
    assert ended.text.count("weights differ") == 1
