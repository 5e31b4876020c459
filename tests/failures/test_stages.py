"""Pipelines of which one stage fails, dies or stops: the job is gone soon, and the text says which rank and where."""

import json
import os
import signal

import pytest

from tests.launch import Job
from tests.runs import made

GONE_S = 60.0  # far more than it takes, for machines under load; without our guards some of these jobs never end
KILLED = 137

# Layers are functions, so that each stage makes its own alone: what happens in "breaks" happens on one stage.
OWN = """
import json
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

PLACE = json.loads(Path(__file__).with_name("place.json").read_text())


class Breaks(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage = stage
        self.calls = 0

    def forward(self, inputs):
        if PLACE["stage"] == self.stage and self.training and torch.is_grad_enabled():
            self.calls += 1
            if self.calls == PLACE["call"]:
                self.break_()
        return inputs + 0

    def break_(self):
        if PLACE["fault"] == "exception":
            raise ValueError("bad luck")
        if PLACE["fault"] == "busy":
            time.sleep(3600)
        os.kill(os.getpid(), getattr(signal, PLACE["fault"]))


def network(sample_shape, outputs):
    layers = [lambda: nn.Linear(sample_shape[0], 8), nn.Tanh, lambda: nn.Linear(8, 8), nn.Tanh, lambda: nn.Linear(8, 8)]
    layers = {f"layer{number}": layer for number, layer in enumerate(layers)} | {"last": lambda: nn.Linear(8, outputs)}
    return {"breaks0": lambda: Breaks(0), **layers, "breaks1": lambda: Breaks(1)}
"""
# Batches of 20 in microbatches of 6: 4 forward passes a step, 19 an epoch.
SECOND_STEP, FOURTH = 4, 4  # forward passes before it; the microbatch in it
CALL = SECOND_STEP + FOURTH


@pytest.fixture
def job(tmp_path):
    """Starts a job on 1x2 of which one stage breaks in a forward pass of training."""
    started = []

    def start(stage, fault, call=CALL, *settings):
        inputs = made.features(6)
        made.write_data(tmp_path / "data.h5", inputs, made.labels(inputs))
        (tmp_path / "own.py").write_text(OWN)
        (tmp_path / "place.json").write_text(json.dumps({"stage": stage, "fault": fault, "call": call}))
        file = made.write_input(tmp_path / "input.toml", {"kind": "own.py:network"}, {}, {"file": "data.h5"})
        started.append(Job(file, 2, "grid.stages=2", 'grid.cut=["layer3"]', *settings))
        return started[-1]

    yield start
    for one in started:
        one.__exit__(None, None, None)


def ended(job):
    """What the job said, once nothing of it is left."""
    job.seconds_to_be_gone(GONE_S)
    return job.wait()


@pytest.mark.parametrize("stage", [0, 1])
def test_an_exception_in_a_layer_of_one_stage(stage, job):
    code, text = ended(job(stage, "exception"))
    assert code == 1, text
    assert f"rank {stage} of 2 on " in text
    assert "phase net, epoch 0, step 1" in text
    assert "ValueError: bad luck" in text
    assert "in break_" in text
    assert text.count("Traceback") == 1, "the other rank is ended without words of its own"


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_that_is_killed(stage, job):
    code, text = ended(job(stage, "SIGKILL"))
    assert code == KILLED, text
    assert "signal 9" in text


@pytest.mark.parametrize(
    ("stage", "schedule", "waits"),
    [
        (0, "1f1b", "activations of microbatch 3 from stage 0"),
        (1, "gpipe", "gradients of microbatch 0 from stage 1"),
    ],
)
def test_a_stage_that_is_stopped(stage, schedule, waits, job):
    """The last microbatch of the second step does not leave its stage."""
    code, text = ended(job(stage, "SIGSTOP", CALL, "run.watchdog=2", f'grid.schedule="{schedule}"'))
    assert code == 1, text
    assert f'"{waits}" has taken' in text
    assert f"1 of 2 ranks wait in it: {1 - stage} " in text
    assert f"no answer from rank {stage}:" in text
    assert "phase net, epoch 0, step 1" in text


def test_a_stage_that_is_busy(job):
    code, text = ended(job(0, "busy", CALL, "run.watchdog=2"))
    assert code == 1, text
    assert '"activations of microbatch 3 from stage 0" has taken' in text
    assert "watchdog: stacks of rank 0" in text
    assert "in break_" in text


def test_a_stage_stopped_from_outside(job):
    stopped = job(1, "busy", 10**6, "run.watchdog=2", "phase.net.epochs=100000")
    assert stopped.until(r"net epoch 1/")
    (pid,) = stopped.pids(0)
    os.kill(pid, signal.SIGSTOP)
    code, text = ended(stopped)
    assert code == 1, text
    assert "no answer from rank 0:" in text
