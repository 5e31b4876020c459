"""The text of an input file: each mistake in one sentence with file, table, key, what was found and expected."""

import pytest

# replace the first by the second -> words of the message
MISTAKES = {
    "unknown key": ("epochs = 1", "epoch = 1", '[[phase]] "first"', "unknown key 'epoch'", "did you mean 'epochs'?"),
    "unknown key, nothing near": ("[run]", "[run]\nzzz = 1", "[run]", "unknown key 'zzz'", "known: name, seed, folder"),
    "key of another kind": ("widths = [8]", "depth = 8", "[network]", "unknown key 'depth'", "known: kind, widths"),
    "unknown table": ("[run]", "[grids]\nstages = 1\n[run]", "unknown table 'grids'", "did you mean 'grid'?"),
    "unknown kind of phase": (
        '"train"',
        '"trian"',
        '[[phase]] "first"',
        "kind = 'trian'",
        "did you mean 'train'? One of",
    ),
    "unknown kind of network": ('"mlp"', '"mlpp"', "[network]", "kind = 'mlpp'", "did you mean 'mlp'?", '"lenet"'),
    "phase without kind": ('kind = "train"\n', "", '[[phase]] "first"', "'kind' is missing", '"train", "prune"'),
    "wrong type, text for number": ("epochs = 1", 'epochs = "1"', 'epochs = "1"', "expected a whole number", "passes"),
    "wrong type, fraction": ("epochs = 1", "epochs = 1.5", "epochs = 1.5", "expected a whole number"),
    "wrong type, true for number": ("epochs = 1", "epochs = true", "epochs = true", "expected a whole number"),
    "wrong type, number for text": ('"images"', "3", "[data]: inputs = 3", "expected a text in quotes"),
    "wrong type, list in a list": ("widths = [8]", 'widths = [8, "9"]', 'widths[1] = "9"', "expected a whole number"),
    "wrong type, table": ("[run]\n", "grid = 2\n[run]\n", "grid = 2", "expected a table"),
    "wrong choice": ("epochs = 1", 'optimizer = "adagrad"', 'optimizer = "adagrad"', 'expected one of "sgd"', '"lars"'),
    "too small": ("epochs = 1", "epochs = 0", '[[phase]] "first": epochs = 0', "expected at least 1"),
    "too large": ("epochs = 1", "momentum = 1.0", "momentum = 1.0", "expected less than 1"),
    "not a number": ("epochs = 1", "rate = nan", "rate = nan", "expected a finite number"),
    "infinite": ("epochs = 1", "rate = inf", "rate = inf", "expected a finite number"),
    "empty list": ('file = "data.h5"', "file = []", "[data]: file = []", "expected at least 1 in the list"),
    "bytes without a unit": ("[network]", 'memory = "1"\n[network]', 'memory = "1"', "such as", "256 MiB"),
    "bytes of an unknown unit": ("[network]", 'memory = "1 Mb"\n[network]', 'memory = "1 Mb"', "MiB", "GB"),
    "too few bytes": ("[network]", 'memory = "1 KiB"\n[network]', 'memory = "1 KiB"', "at least 65536"),
    "missing table": ('[network]\nkind = "mlp"\nwidths = [8]\n', "", "the table 'network' is missing"),
    "missing key": ('targets = "labels"\n', "", "[data]", "the key 'targets' is missing", "labels or values"),
    "bad name": ('"first"', '"../first"', 'name = "../first"', "letters, digits"),
    "microbatch larger than batch": ("size = 10", "size = 50", "microbatch_size = 50 is larger than batch_size = 40"),
    "rates crossed": ("epochs = 1", "min_rate = 0.1", "min_rate = 0.1 is larger than rate = 0.001"),
    "steps without milestones": ("epochs = 1", 'schedule = "step"', 'schedule = "step" wants milestones'),
    "all held out": (
        "[network]",
        "validation = 0.5\ntest = 0.5\n[network]",
        "[data]: validation + test = 1 leaves nothing",
    ),
    "depth and blocks": ('"mlp"\nwidths = [8]', '"resnet"\ndepth = 8\nblocks = [1]', "depth and blocks are both given"),
    "two phases of one name": ('"test-of-first"', '"first"', "two phases have the name 'first'"),
    "phase called new": ('"first"', '"new"', "cannot be called 'new'"),
    "unset environment variable": ('"data.h5"', '"$NO_SUCH_PLACE/data.h5"', "[data]: file", "$NO_SUCH_PLACE to be set"),
    "not TOML": ("epochs = 1", "epochs = ", "is not valid TOML", "line 18"),
    "schedule of no name": (
        "[data]",
        '[grid]\nschedule = "1f2b"\n[data]',
        "[grid]: schedule",
        '"1f1b"',
        '"interleaved"',
    ),
    "cut by a word": (
        "[data]",
        '[grid]\ncut = "even"\n[data]',
        '[grid]: cut = "even"',
        '"estimated", "measured" or a list',
    ),
    "cut at numbers": (
        "[data]",
        "[grid]\ncut = [3]\n[data]",
        "[grid]: cut = [3]",
        "a list of names of layers in quotes",
    ),
    "cut at too few layers": (
        "[data]",
        '[grid]\nstages = 2\nschedule = "interleaved"\ncut = ["output"]\n[data]',
        "[grid]: cut names 1 layers, but stages = 2 x chunks = 2 makes 4 chunks; give 3",
    ),
    "one chunk": ("[data]", "[grid]\nchunks = 1\n[data]", "[grid]: chunks = 1", "expected at least 2"),
    "little memory": ("[data]", '[grid]\nmemory = "1 kB"\n[data]', '[grid]: memory = "1 kB"', "at least 65536"),
    "key twice": ("epochs = 1", "epochs = 1\nepochs = 2", "is not valid TOML", "line 19"),
    "nested too deep": ("widths = [8]", f"widths = {'[' * 40}8{']' * 40}", "nested 40 deep", "at most 32"),
    "key too long": ("epochs = 1", f"{'a.' * 400}b = 1", "a key of 80", "at most 512"),
    "control characters": ("epochs = 1", 'optimizer = "\\u001b[2J"', 'optimizer = "\\x1b[2J"', "expected one of"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_text(job, refused, name):
    old, new, *words = MISTAKES[name]
    job.edit((old, new))
    refused(job.check(), f"{job.input}: ", *words)


def test_all_mistakes_are_told_together(job, refused):
    job.edit(("epochs = 1", "epochs = 0"), ("[data]", "[grid]\nstages = 0\n[data]"), ('"labels"', "1"))
    refused(job.check(), '[[phase]] "first": epochs = 0', "[grid]: stages = 0", "[data]: targets = 1", lines=3)


def test_mistakes_of_the_plan_are_told_together(job, refused):
    """What the number of ranks, the files and the chain of phases make wrong."""
    job.edit(('"data.h5"', '"none.h5"'), ("epochs = 1", 'epochs = 1\nloss = "mse"'))
    refused(job.check("--ranks", "9"), "none.h5", "9 replicas", 'loss = "mse"', lines=3)


def test_too_large(job, refused):
    job.input.write_text("#" * (2 << 20))
    refused(job.check(), f"{job.input}: 2097152 bytes", "at most 1048576", "Is it really TOML?")


def test_not_utf8(job, refused):
    job.input.write_bytes(b'[run]\nname = "caf\xe9"')
    refused(job.check(), f"{job.input}: is not UTF-8 text (byte 17)")


def test_an_hdf5_file_as_input_file(job, refused):
    refused(job.command("check", str(job.data)), f"{job.data}: is not UTF-8", "Is it really TOML?")


def test_empty(job, refused):
    job.input.write_text("")
    tables = ("run", "data", "network", "phase")
    refused(job.check(), *(f"the table '{name}' is missing" for name in tables), lines=4)


def test_no_input_file(job, refused):
    refused(job.command("check", str(job.folder / "jab.toml")), "jab.toml: no such file", "did you mean", "job.toml?")


def test_folder_as_input_file(job, refused):
    refused(job.command("check", str(job.folder)), f"{job.folder}: is a folder", "it holds job.toml.")


SETTINGS = {
    "no value": ("phase.first.epochs", "expected TABLE.KEY=VALUE"),
    "no table": ("epochs=3", "expected TABLE.KEY=VALUE"),
    "no such phase": ("phase.frist.epochs=3", "no phase is named 'frist'", "did you mean 'first'?"),
    "no such key": ("phase.first.epoch=3", "unknown key 'epoch'", "did you mean 'epochs'?"),
    "no such table": ("rum.seed=3", "unknown table 'rum'", "did you mean 'run'?"),
    "key of a value": ("run.name.x=3", "run.name is not a table"),
    "phase without name": ("phase.epochs=3", "--set phase.epochs=3", "phase.NAME.KEY=VALUE", "first, test-of-first"),
    "wrong type": ("phase.first.epochs=many", 'epochs = "many"', "expected a whole number"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_mistake_in_set(job, refused, name):
    setting, *words = SETTINGS[name]
    refused(job.check("--set", setting), *words)


def test_template_of_an_unknown_kind(job, refused):
    refused(job.command("template", "trian"), "template trian: no such kind", "did you mean 'train'")


def test_info_on_what_is_not_hdf5(job, refused):
    refused(job.command("info", str(job.input)), f"{job.input}: is not an HDF5 file")
