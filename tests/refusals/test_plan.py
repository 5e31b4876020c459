"""What the number of ranks and the chain of phases make impossible, before anything is opened."""

import numpy as np
import pytest

LAST = 'name = "test-of-first"\n'  # of the good job's evaluate phase
SECOND = '[[phase]]\nkind = "train"\nname = "second"\nepochs = 1\nbatch_size = 40\n'

# replace the first by the second -> words of the message
MISTAKES = {
    "evaluate without network": (
        '[[phase]]\nkind = "train"\nname = "first"\nepochs = 1\nbatch_size = 40\nmicrobatch_size = 10\n',
        "",
        "evaluate needs a network",
        "put a train phase before it",
    ),
    "network of a later phase": (
        LAST,
        f'{LAST}network = "second"\n{SECOND}',
        "network = 'second'",
        "comes later",
        "so far: first",
    ),
    "own network": (LAST, f'{LAST}network = "test-of-first"\n', "'test-of-first'", "comes later"),
    "unknown network": (LAST, f'{LAST}network = "frist"\n', "no earlier phase has that name", "did you mean 'first'?"),
    "unknown network in a list": (
        LAST,
        f'{LAST}network = ["first", "secnd"]\n',
        "network = 'secnd'",
        "no earlier phase has that name",
        "networks so far: first",
    ),
    "all networks, and there are none": (
        '[[phase]]\nkind = "train"\nname = "first"\nepochs = 1\nbatch_size = 40\nmicrobatch_size = 10\n\n[[phase]]\n',
        '[[phase]]\nnetwork = "all"\n',
        "evaluate needs a network",
        "put a train phase before it",
    ),
    "a network twice": (LAST, f'{LAST}network = ["first", "first"]\n', "network", "'first' comes twice"),
    "no network in a list": (LAST, f"{LAST}network = []\n", "network", 'a list of names, or "all"'),
    "networks that are no names": (LAST, f"{LAST}network = [1]\n", "network", 'a list of names, or "all"'),
    "a phase called all": (
        'name = "first"\n',
        'name = "all"\n',
        "a phase cannot be called 'all'",
        "the networks of all phases before",
    ),
    "network of an evaluate phase": (
        LAST,
        f'{LAST}{SECOND}network = "test-of-first"\n',
        '[[phase]] "second": network = ',
        "makes no network",
    ),
    "loss of another task": (
        "epochs = 1",
        'epochs = 1\nloss = "mse"',
        'loss = "mse" does not go with [data] task = "classification"',
        "one of cross_entropy",
    ),
    "label loss for values": (
        '[network]\nkind = "mlp"\nwidths = [8]\n\n[[phase]]',
        'task = "regression"\n[network]\nkind = "mlp"\n[[phase]]\nloss = "cross_entropy"',
        'loss = "cross_entropy" does not go with [data] task = "regression"',
        "mse, l1, huber, bce",
    ),
    "accuracy of values": (
        '[network]\nkind = "mlp"\nwidths = [8]\n\n[[phase]]',
        'task = "regression"\n[network]\nkind = "mlp"\n[[phase]]\nmonitor = "accuracy"',
        'monitor = "accuracy"',
        'task = "classification"',
    ),
    "patience without validation": (
        "[network]",
        "validation = 0\n[network]",
        "patience = 2",
        "[data] validation = 0",
    ),
    "part that is empty": (
        "[network]",
        "test = 0\n[network]",
        'part = "test"',
        "[data] test = 0",
        "nothing is held out",
    ),
}
KNOWN = "sample_shape = [4, 4]\nclasses = 3\n[network]"  # what lets check count the layers

# [grid] of the good job on 4 ranks, its network of layers hidden1 and output -> words of the message
PIPELINES = {
    "stages that do not divide the ranks": ("stages = 3", "does not divide 4 ranks", "1 (4 x 1), 2 (2 x 2), 4 (1 x 4)"),
    "more stages than ranks": ("stages = 8", "does not divide 4 ranks", "or start 8 ranks"),
    "more stages than layers": ("stages = 4", "makes 4 chunks", "2 layers (hidden1, output)", "at most 2"),
    "more chunks than layers": (
        'stages = 2\nschedule = "interleaved"\nchunks = 4',
        "stages = 2 x chunks = 4 makes 8 chunks",
        "stages may be at most 0",
    ),
    "cut at an unknown layer": ('stages = 2\ncut = ["outputs"]', "[grid] cut", "'outputs'", "did you mean 'output'?"),
    "cut at the first layer": ('stages = 2\ncut = ["hidden1"]', "'hidden1' is the first layer", "leave it out"),
    "too large for any number of stages": (
        'memory = "64 KiB"',
        '[grid] memory = 0.0625 MiB: in phase "first" a rank would hold',
        "no number of stages would fit",
        "smaller microbatch_size",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_plan(job, refused, name):
    old, new, *words = MISTAKES[name]
    if name == "patience without validation":
        job.edit(("epochs = 1", "epochs = 1\npatience = 2"))
    job.edit((old, new))
    refused(job.check(), f"{job.input}: ", *words)


@pytest.mark.parametrize("name", PIPELINES)
def test_mistake_in_the_grid(job, refused, name):
    grid, *words = PIPELINES[name]
    wide = "widths = [4096]" if "memory" in grid else "widths = [8]"
    job.edit(("[data]", f"[grid]\n{grid}\n[data]"), ("[network]", KNOWN), ("widths = [8]", wide))
    told = job.check("--ranks", "1" if "memory" in grid else "4")
    refused(told, f"{job.input}: [grid] ", *words, lines=told.err.count("in phase") or 1)


def test_a_network_too_large_for_one_rank(job, refused):
    """The number of stages that the message names is enough."""
    job.edit(
        ("[data]", '[grid]\nmemory = "8 MiB"\n[data]'),
        ("[network]", KNOWN),
        ("widths = [8]", "widths = [512, 512, 512]"),
    )
    told = job.check("--ranks", "4")
    refused(told, '[grid] memory = 8 MiB: in phase "first" a rank would hold', "stages = 2 would fit")
    assert job.check("--ranks", "4", "--set", "grid.stages=2").code == 0
    cut = ("--set", "grid.stages=2", "--set", 'grid.cut=["hidden2"]', "--set", "grid.memory=7MiB")
    refused(
        job.check("--ranks", "2", *cut), "the fullest stage would hold", 'stages = 2 with cut = "estimated" would fit'
    )


@pytest.mark.parametrize("ranks", [5, 1000])
def test_fewer_microbatches_than_ranks(job, refused, ranks):
    told = job.check("--ranks", str(ranks))
    refused(told, '[[phase]] "first": batch_size = 40 in microbatches of 10', f"{ranks} replicas", "start fewer ranks")


def test_the_advice_on_microbatches_works(job):
    """The sizes that the message names are enough."""
    assert "microbatch_size of at most 8" in job.check("--ranks", "5").err
    assert job.check("--ranks", "5", "--set", "phase.first.microbatch_size=8").code == 0
    assert "batch_size of at least 50" in job.check("--ranks", "5").err
    assert job.check("--ranks", "5", "--set", "phase.first.batch_size=50").code == 0


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ('"lenet"', "[3, 8]", ("images of 3x8 are too small", "at least 4x4")),
        ('"lenet"', "[16]", ("(16,)", "images of shape", "kind = 'mlp'")),
        ('"resnet"\ndepth = 9', "[32, 32]", ("depth = 9", "6n+2")),
        ('"transformer"\nwidth = 10\nheads = 4', "[8, 3]", ("width = 10", "heads = 4")),
        ('"transformer"\nvocabulary = 9', "[8, 3]", ("tokens of shape (length,)", "(8, 3)")),
    ],
)
def test_network_and_sample_do_not_fit(job, refused, kind, shape, words):
    """Known from the keys alone: `check` does not open the data."""
    job.edit(('"mlp"\nwidths = [8]', kind), ("[network]", f"sample_shape = {shape}\nclasses = 3\n[network]"))
    refused(job.check(), f"{job.input}: network ", *words)


def test_image_too_small_found_in_the_data(job, refused):
    """The same where only the data file says how large a sample is."""
    job.edit(('"mlp"\nwidths = [8]', '"lenet"'))
    job.store(images=np.zeros((240, 3, 8), np.float32))
    refused(job.run(), "network lenet: images of 3x8 are too small", "at least 4x4", "kind = 'mlp'")


def test_ranks_is_a_number(job):
    with pytest.raises(SystemExit) as ended:
        job.command("check", str(job.input), "--ranks", "two")
    assert ended.value.code == 2
