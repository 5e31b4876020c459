"""What stages hold: layers, bytes, time."""

from dataclasses import replace

import pytest

from app.errors import InputError
from app.inputfile import read_input
from app.plan.costs import FLOAT, layer_costs
from app.plan.grid import Grid
from app.plan.pipelines.stages import Division, costs_of, sample_shape_of

TEXT = """
[run]
name = "job"
[data]
file = "data.h5"
inputs = "x"
targets = "y"
sample_shape = [32]
classes = 10
validation = 0
[network]
kind = "mlp"
widths = [32, 32, 32, 32, 32, 32, 32]
[[phase]]
kind = "train"
name = "first"
batch_size = 64
microbatch_size = 8
optimizer = "adam"
[[phase]]
kind = "evaluate"
name = "test"
"""
MIB = 1 << 20


def division(*settings: str, replicas: int = 1, phase: int = 0) -> Division:
    given = read_input(TEXT, "job.toml", settings)
    grid = Grid(given.grid.stages * replicas, given.grid.stages, given.grid.chunks_per_stage)
    return Division(given, grid, given.phase[phase], costs_of(given), sample_shape_of(given))


def held(*settings: str) -> list[float]:
    """Bytes of activations by stage."""
    return [stage.activations for stage in division(*settings).layout().held]


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "interleaved"])
def test_alike_layers_are_shared_out_evenly(schedule):
    pieces = division("grid.stages=2", f"grid.schedule={schedule}").cut()
    assert [len(piece) for piece in pieces] == ([2] * 4 if schedule == "interleaved" else [4, 4])
    assert [n for piece in pieces for n in piece] == list(range(8))


def test_named_cut_is_kept():
    assert division("grid.stages=2", 'grid.cut=["hidden2"]').cut() == (range(1), range(1, 8))


def test_measured_times_move_the_cut():
    slow, quick = ((0.0, 1.0),) * 3, ((0.0, 0.1),) * 3
    assert division("grid.stages=2").cut([slow, *[quick] * 7]) == (range(1), range(1, 8))


def test_evaluation_is_cut_by_its_forward_pass():
    forward_heavy, others = ((0.0, 7.0), (0.0, 0.0), (0.0, 0.0)), ((0.0, 1.0), (0.0, 9.0), (0.0, 9.0))
    times = [forward_heavy, *[others] * 7]
    assert division("grid.stages=2", phase=1).cut(times) == (range(1), range(1, 8))
    assert len(division("grid.stages=2", phase=0).cut(times)[0]) > 3


def test_bytes_of_one_layer_on_one_stage():
    """Counted by hand: a matrix and its biases; its inputs in flight, inputs and gradients of outputs pending."""
    one = division("network.widths=[]")
    weights = FLOAT * (32 * 10 + 10)
    [stage] = one.layout().held
    assert (stage.weights, stage.gradients) == (weights, 3 * weights)
    assert stage.activations in (FLOAT * 8 * (32 + 42), FLOAT * 8 * 2 * 42)  # as the schedule lags by one or two
    kept = division("network.widths=[]", "data.validation=0.1").layout().held[0]
    assert kept.weights == 2 * weights, "the network of the best epoch is kept"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_state_of_the_optimizer(optimizer):
    [stage] = division(f"phase.first.optimizer={optimizer}").layout().held
    assert stage.gradients == {"sgd": 2, "adam": 3}[optimizer] * stage.weights


def test_only_gpipe_holds_more_of_more_microbatches():
    many = ("grid.stages=4", "phase.first.batch_size=256")
    few = ("grid.stages=4", "phase.first.batch_size=64")
    assert held(*many) == held(*few)
    assert division(*few).layout().in_flight == (4, 3, 2, 1)
    gpipe = ("grid.schedule=gpipe",)
    assert sum(held(*many, *gpipe)) > 2.5 * sum(held(*few, *gpipe))


def test_recomputing_holds_less():
    gpipe = ("grid.stages=2", "grid.schedule=gpipe")
    assert sum(held(*gpipe, "grid.recompute=true")) < 0.8 * sum(held(*gpipe))
    assert held("grid.recompute=true") == held(), "one stage does not recompute"


def test_a_stage_without_the_owner_holds_a_tied_matrix_too():
    given = read_input(TEXT, "job.toml", ["grid.stages=2"])
    options = {"width": 8, "heads": 2, "blocks": 2, "feedforward": None, "dropout": 0.0, "causal": True}
    options |= {"pooling": "none", "vocabulary": 1000, "tied": True}
    layers = layer_costs("transformer", options, (16,), 1000)
    layout = Division(given, Grid(2, 2), given.phase[0], layers, (16,)).layout()
    assert sum(layout.parameters) == sum(layer.parameters for layer in layers) + 8 * 1000
    whole = Division(given, Grid(1), given.phase[0], layers, (16,)).layout()
    assert sum(whole.parameters) == sum(layer.parameters for layer in layers)


def test_tied_weights_say_the_outputs():
    text = TEXT.replace(
        '"mlp"\nwidths = [32, 32, 32, 32, 32, 32, 32]', '"transformer"\nvocabulary = 50\npooling = "none"'
    )
    text = text.replace("classes = 10\n", "")
    assert costs_of(read_input(text, "job.toml")) is None
    tied = costs_of(read_input(text, "job.toml", ["network.tied=true"]))
    assert tied is not None
    assert tied[-1].output_shape == (32, 50)


def test_a_network_too_large_for_one_rank_fits_two():
    wide = ("network.widths=[512, 512, 512, 512, 512, 512, 512]", 'grid.memory="16 MiB"')
    with pytest.raises(InputError, match=r"memory = 16 MiB.* would hold .* MiB .*stages = 2.* would fit"):
        division(*wide).cut()
    layout = division(*wide, "grid.stages=2").layout()
    assert max(stage.total for stage in layout.held) <= 16 * MIB
    assert sum(stage.total for stage in layout.held) > 16 * MIB


def test_the_limit_moves_the_cut():
    """The first layer takes as long as all others, which one stage cannot hold."""
    settings = ("grid.stages=2", "network.widths=[256, 256, 256, 256, 256, 256, 256]")
    slow = [((0.0, 7.0),) * 3, *[((0.0, 1.0),) * 3] * 7]
    assert division(*settings).cut(slow) == (range(1), range(1, 8))
    fullest = division(*settings, 'grid.cut=["hidden2"]').layout().held[1].total
    limited = division(*settings, f'grid.memory="{int(0.8 * fullest)} B"')
    assert limited.cut(slow) == (range(3), range(3, 8)), "five layers on the last stage are 0.71 of seven"


def test_the_named_cut_is_held_to_the_limit():
    settings = ("grid.stages=2", "network.widths=[512, 512, 512, 512, 512, 512, 512]", 'grid.cut=["hidden2"]')
    assert division(*settings).cut() == (range(1), range(1, 8))
    with pytest.raises(InputError, match=r'stages = 2 with cut = "estimated" would fit'):
        division(*settings, 'grid.memory="16 MiB"').cut()


def test_nothing_fits():
    with pytest.raises(InputError, match="no number of stages would fit"):
        division("network.widths=[4096]", 'grid.memory="64 KiB"').cut()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["grid.stages=9"], "stages = 9 makes 9 chunks, but the network has 8 layers"),
        (["grid.stages=3", "grid.schedule=interleaved", "grid.chunks=3"], "stages = 3 x chunks = 3 makes 9 chunks"),
    ],
)
def test_more_chunks_than_layers(settings, words):
    with pytest.raises(InputError) as caught:
        division(*settings).cut()
    assert words in str(caught.value)


def test_a_users_module_that_is_one_layer():
    whole = division("grid.stages=2")
    given = read_input(TEXT.replace('"mlp"\nwidths = [32, 32, 32, 32, 32, 32, 32]', '"mine.py:net"'), "job.toml")
    one = replace(whole, given=given, layers=whole.layers[:1])
    with pytest.raises(InputError, match=r"1 layer \(hidden1\); a function that returns an nn\.Sequential"):
        one.cut()


def test_shares_and_expectations():
    layout = division("grid.stages=2", "phase.first.microbatch_size=4", replicas=2).layout()
    assert sum(layout.shares) == pytest.approx(1)
    assert 0 < layout.expected.bubble < 0.25
    longer = division("grid.stages=2", "phase.first.microbatch_size=4").layout()
    assert longer.expected.seconds > 1.5 * layout.expected.seconds, "one replica has twice the microbatches"
