"""Training jobs in which a chosen rank kills itself at a chosen place: the network that the jobs train does it."""

import json
from pathlib import Path
from typing import Any

from tests.runs import made

KILLED = 137  # exit code of mpirun, and of a shell, for a process that died by signal 9; Popen says -9

OWN = """
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from torch import nn

FILE = Path(__file__).with_name("kill.json")
PLACE = json.loads(FILE.read_text()) if FILE.exists() else {}
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or 0)
LOADED = hasattr(sys, "places_seen")
SEEN = vars(sys).setdefault("places_seen", {})  # of the process: a network that is built again loads this file again


def reached(place):
    if PLACE.get("rank") == RANK and PLACE["place"] == place:
        SEEN[place] = SEEN.get(place, 0) + 1
        if SEEN[place] == PLACE["count"]:
            die = lambda: os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(PLACE["delay_s"], die).start() if PLACE["delay_s"] else die()


def about_to(what, path):
    if path.parent.name == "net" or re.match("[0-9]{6}-[0-9]{8}", path.name):
        reached("%s a checkpoint" % what)
        reached("%s a checkpoint of %s" % (what, path.parts[path.parts.index("checkpoints") + 1]))
    else:
        reached("%s %s" % (what, path.name))


def audit(event, arguments):
    if event in ("os.rename", "os.remove"):
        path = Path(os.fsdecode(arguments[1] if event == "os.rename" else arguments[0]))
        about_to("before %s of" % event[3:], path)
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".part"):
        path = Path(arguments[0])
        about_to("within write of", path.with_name(path.name[1:].rsplit(".", 2)[0]))


if PLACE.get("place", "").startswith(("before", "within")) and not LOADED:
    sys.addaudithook(audit)


class Fragile(nn.Module):
    def __init__(self, sleep_s):
        super().__init__()
        self.sleep_s = sleep_s
        self.trained = False

    def forward(self, inputs):
        if self.training and torch.is_grad_enabled():  # not when the program only looks at shapes
            self.trained = True
            reached("training")
            time.sleep(self.sleep_s)
        elif torch.is_inference_mode_enabled():
            reached("validation" if self.trained else "evaluation")
        return inputs


def network(sample_shape, outputs, sleep_s):
    return nn.Sequential(
        Fragile(sleep_s), nn.Linear(sample_shape[0], 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(16, outputs),
    )


def circuit():  # a file of the user's own in a quantum phase: there too ranks are killed at a place
    from app.plan.circuits.templates import strongly_entangling

    return strongly_entangling(8, 3)
"""


def write(folder: Path, sleep_s: float = 0.0, **train: Any) -> Path:
    """An input file: 4 epochs of 5 steps, a checkpoint every second step; the last batch has 16 samples of 20."""
    inputs = made.features(6)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    (folder / "own.py").write_text(OWN)
    network = {"kind": "own.py:network", "options": {"sleep_s": sleep_s}}
    return made.write_input(
        folder / "input.toml", network, {"epochs": 4, "checkpoint_steps": 2, **train}, {"file": "data.h5"}
    )


EVERY_KIND = {"net": "train", "thin": "prune", "student": "distill", "ground": "quantum"}  # phases that are resumed


def write_every_kind(folder: Path, sleep_s: float) -> Path:
    """An input file of phases of every kind, each with checkpoints: train, prune (penalty, cut, fine-tuning, twice),
    distill, minimise, and an evaluation of the student.
    """
    own = {"kind": "own.py:network", "options": {"sleep_s": sleep_s}}
    trains = {"batch_size": 20, "microbatch_size": 6, "checkpoint_steps": 2}
    thin = {"kind": "prune", "name": "thin", "network": "net", "method": "sparsity", "penalty": "growing"}
    thin |= {"penalty_epochs": 1, "remove": 0.6, "rounds": 2, "round_to": 1, "epochs": 1, "optimizer": "sgd"}
    student = {"kind": "distill", "name": "student", "teacher": "thin", "student": own, "epochs": 4}
    student |= {"optimizer": "sgd", "rate": 0.05}  # adam turns the rounding of gradients that are zero into steps
    ground = {"kind": "quantum", "name": "ground", "task": "minimise", "circuit": {"function": "own.py:circuit"}}
    ground |= {"observable": {"model": "ising", "qubits": 8, "periodic": True}, "start": "random", "tolerance": 0.0}
    ground |= {"rate": 0.05, "steps": 150, "checkpoint_steps": 2, "save_state": True}
    inputs = made.features(6)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    (folder / "own.py").write_text(OWN)
    return made.write_input(
        folder / "input.toml",
        own,
        {"epochs": 4, "checkpoint_steps": 2},
        {"file": "data.h5"},
        after=[thin | trains | {"rate": 0.02}, student | trains, ground],
    )


def kill(folder: Path, rank: int, place: str, count: int, delay_s: float = 0.0) -> None:
    """Jobs started from now on lose this rank when it is at the place for the `count`th time.

    Places: training, validation and evaluation (forward passes of one microbatch), and "before rename of NAME", "before
    remove of NAME", "within write of NAME", where NAME is a file's, or "a checkpoint", or "a checkpoint
    of PHASE". delay_s: from there on.
    """
    (folder / "kill.json").write_text(json.dumps({"rank": rank, "place": place, "count": count, "delay_s": delay_s}))


def spare(folder: Path) -> None:
    """Jobs started from now on lose nobody."""
    (folder / "kill.json").unlink()
