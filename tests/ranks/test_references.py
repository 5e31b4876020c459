"""References over ranks: exact counts and the outputs of the whole part, the same on any number of them; kept."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from app.data.profile import edges_of
from app.inputfile.phases import Evaluate
from app.inputfile.read import read_input
from app.parallel.group import Group
from app.parallel.watchdog import Watchdog
from app.parallel.world import World
from app.phases.context import Context
from app.phases.context.data import open_data
from app.phases.context.networks import new_network
from app.phases.context.references import features_wanted, input_reference, reference_of
from app.phases.context.stopping import Stopping
from app.plan.plan import make_plan
from app.report.log import Log
from app.report.timers import Timers
from app.storage.artifact_file import Provenance
from app.storage.networks import write_network
from app.storage.results import Results
from app.storage.run_folder import RunFolder

pytestmark = pytest.mark.mpi

SAMPLES, FEATURES, CLASSES = 1100, 6, 3
INPUT = """
[run]
name = "made"
folder = "{folder}"
[data]
file = "{file}"
inputs = "x"
targets = "y"
validation = 0.2
test = 0.1
[network]
kind = "mlp"
widths = [5]
[[phase]]
kind = "train"
name = "net"
epochs = 1
batch_size = 32
rate = 0.1
[[phase]]
kind = "predict"
name = "used"
monitor = {{ features = 4 }}
"""


def inputs() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    found[:, 3] = np.maximum(found[:, 3], 0)
    return found


@pytest.fixture(scope="module")
def context(here: World, group: Group, tmp_path_factory: pytest.TempPathFactory):
    """A run whose network is there, with random weights."""
    folder = Path(here.bcast(str(tmp_path_factory.mktemp("references"))))
    if here.rank == 0:
        with h5py.File(folder / "set.h5", "w") as h5:
            h5.create_dataset("x", data=inputs(), chunks=(16, FEATURES), compression="gzip")
            h5["y"] = np.arange(SAMPLES) % CLASSES
        RunFolder(folder / "run").create()
        (folder / "run" / "networks").mkdir()
    here.barrier()
    given = read_input(INPUT.format(folder=folder / "run", file=folder / "set.h5"), "made.toml", ())
    run, log = RunFolder(folder / "run"), Log(folder / "run.log", rank=here.rank, console=False)
    watchdog = Watchdog(here.rank, here.size, here.host, run.watchdog, 0, print, here.abort)
    data, measured = open_data(given, [folder / "set.h5"], None, False, here, watchdog, log)
    results, provenance = Results(run.results), Provenance("phalanx", "0", "", "0", "")
    if here.rank == 0:
        results.update({"data": measured}, provenance)
    made = Context(
        plan=make_plan(given, here.size), input_folder=folder, world=here, everyone=group,
        data_group=here.group(0, here.rank), stage_group=here.group(here.rank, 0), device=torch.device("cpu"),
        known_data=data, folder=run, results=results, provenance=provenance, log=log, timers=Timers(),
        watchdog=watchdog, stopping=Stopping(here, None, run.stop, lambda ask: None, 0.0),
    )  # fmt: skip
    network = new_network(made, Evaluate(kind="evaluate", name="net"))
    made.alone(lambda: write_network(run.network("net"), network.weights(), network.architecture, {}, provenance))
    yield made
    data.source.close()
    here.barrier()


def test_inputs_are_counted_exactly(context: Context):
    assert features_wanted(context) == 4
    found = input_reference(context, 4)
    train = inputs()[context.data.split.members("train", 0, SAMPLES)]
    assert found.features.names == ("number 0", "number 1", "number 3", "number 4")
    assert found.samples == len(train)
    np.testing.assert_array_equal(found.counts, found.count(train[:, [0, 1, 3, 4]].T))
    assert found.counts.sum() == 4 * len(train)


def test_outputs_are_those_of_the_whole_validation_part(context: Context):
    found = reference_of(context, "net")
    assert found is not None
    assert found.part == "validation"
    numbers = context.data.split.members("validation", 0, SAMPLES)
    network = new_network(context, Evaluate(kind="evaluate", name="net")).network.eval()
    with torch.inference_mode():
        logits = network(context.data.transform.inputs_(inputs()[numbers]))
    sure, predicted = (one.numpy()[None] for one in logits.softmax(1).max(1))
    assert {name: one.samples for name, one in found.outputs.items()} == dict.fromkeys(
        ("class", "confidence"), len(numbers)
    )
    np.testing.assert_array_equal(found.outputs["class"].counts, found.outputs["class"].count(predicted))
    wanted = edges_of(np.sort(sure[0].astype(np.float64)), 64)
    np.testing.assert_allclose(found.outputs["confidence"].edges[0], wanted, rtol=1e-5)


def test_all_ranks_have_the_same_and_it_is_kept(context: Context):
    first = reference_of(context, "net")
    again = reference_of(context, "net")
    assert first is not None
    assert again is not None
    assert len(set(context.world.allgather(first.to_json()))) == 1
    assert again.to_json() == first.to_json()
    if context.speaks:
        said = (context.input_folder / "run.log").read_text()
        assert said.count("reading the training part once") == 1
        assert said.count("net: measuring what its outputs look like") == 1
    context.world.barrier()


def test_another_network_under_the_name_is_measured_anew(context: Context):
    before = reference_of(context, "net")
    network = new_network(context, Evaluate(kind="evaluate", name="net"))
    weights = {name: 3 * weight for name, weight in network.weights().items()}
    write = context.folder.network("net")
    context.alone(lambda: write_network(write, weights, network.architecture, {}, context.provenance))
    after = reference_of(context, "net")
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.inputs.counts, before.inputs.counts)
    assert not np.array_equal(after.outputs["confidence"].edges, before.outputs["confidence"].edges)
