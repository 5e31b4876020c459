"""The text of an input file: each mistake in one sentence with file, table, key, what was found and expected."""

import math
import time

import pytest
from pydantic import ValidationError

from app.errors import InputError
from app.inputfile.layers import LAYERS
from app.inputfile.models import Data, Grid, Run
from app.inputfile.networks import NETWORKS
from app.inputfile.phases import PHASES
from app.inputfile.quantum import Noise
from app.inputfile.read import read_input

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
    "nested inline tables": ("epochs = 1", f"x = {'{a = ' * 40}1{'}' * 40}", "nested 40 deep", "at most 32"),
    "key too long": ("epochs = 1", f"{'a.' * 400}b = 1", "a key or number of 801 characters", "at most 512"),
    "key of too many parts": ("epochs = 1", f"{'a.' * 40}b = 1", "a key of 41 parts", "at most 32"),
    "number too long": ("epochs = 1", f"epochs = {'9' * 5000}", "a key or number of 5000 characters"),
    "number beyond 64 bit": ("epochs = 1", f"epochs = {'9' * 300}", "epochs = 999", "expected at most"),
    "table twice": ("[data]", "[run]\n[data]", "is not valid TOML", "twice"),
    "NUL": ("[run]", "[r\0un]", "is not valid TOML"),
    "NUL in a key": ("epochs = 1", '"ep\\u0000ochs" = 1', "unknown key 'ep\\x00ochs'"),
    "NUL in a name": ('"first"', '"fi\\u0000rst"', 'name = "fi\\x00rst"', "letters, digits"),
    "NUL in a path": ('"data.h5"', '"da\\u0000ta.h5"', 'file[0] = "da\\x00ta.h5"', "a path without NUL"),
    "infinite option": (
        'kind = "mlp"\nwidths = [8]',
        'kind = "nets.py:build"\noptions = {a = [1, {b = -inf}]}',
        "network.options.a.1.b = -inf: expected a finite number",
    ),
    "control characters in a phase's name": (
        '"first"',
        '"\\u001b[2J"',
        '[[phase]] "\\x1b[2J": name',
        "letters, digits",
    ),
    "control characters": ("epochs = 1", 'optimizer = "\\u001b[2J"', 'optimizer = "\\x1b[2J"', "expected one of"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_text(job, refused, name):
    old, new, *words = MISTAKES[name]
    job.edit((old, new))
    refused(job.check(), f"{job.input}: ", *words)


# 80 kB with which tomllib is busy for 10 to 90 s, or whose repr goes too deep
COSTLY = {
    "dotted key": "{dots}b = 1",
    "quoted dotted key": '"=".{dots}b = 1',
    "dotted key with spaces": "{spaced}b = 1",
    "dotted table": "[{dots}b]",
    "dotted list of tables": "[[{dots}b]]",
    "dotted inline key": "x = {{{dots}b = 1}}",
    "dotted inline key after others": 'x = "="\ny = {{z = "{{", {dots}b = 1}}',
    "digits": "x = {digits}",
    "lists": "x = {opened}{closed}",
    "lists after closed ones in a comment": "# {closed}\nx = {opened}{closed}",
    "unknown keys": "{keys}",
    "text without end": 'x = """{escapes}',
}
PIECES = {
    "dots": "a." * 40_000,
    "spaced": "a . " * 20_000,
    "digits": "7_" * 40_000 + "7",
    "opened": "[" * 40_000,
    "closed": "]" * 40_000,
    "keys": "\n".join(f"key{number} = 1" for number in range(7000)),
    "escapes": '\\"""' * 20_000,
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_would_take_long_is_refused_at_once(job, name):
    text = job.input.read_text() + COSTLY[name].format(**PIECES)
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        read_input(text, "job.toml")
    assert time.process_time() - begun < 1
    assert len(caught.value.problems) <= 51
    assert all(len(problem) < 600 and problem.startswith("job.toml: ") for problem in caught.value.problems)


def test_brackets_dots_and_quotes_in_texts_and_comments_are_none(job):
    text = "[{" * 99 + "a." * 99 + "7" * 999
    lines = [f'# {text}"', f'"{text}\\"", \'{text}"\', """\n{text}"\\"""\n""", \'\'\'\n{text}\'" \'\'\'']
    job.edit(("[network]", f"{lines[0]}\n[network]"), ('"mlp"', '"nets.py:build"'))
    job.edit(("widths = [8]", f"options = {{ texts = [{lines[1]}] }}"))
    assert len(read_input(job.input.read_text(), "job.toml").network.options["texts"]) == 4


def test_no_number_may_be_infinite():
    """Every key that takes a float, of every table."""
    tables = [Run, Grid, Data, Noise, *NETWORKS.values(), *PHASES.values(), *LAYERS.values()]
    keys = [(table, key) for table in tables for key, field in table.model_fields.items() if takes_float(field)]
    assert len(keys) > 60
    for table, key in keys:
        for value in (math.inf, -math.inf, math.nan):
            for given in (value, [value], {"a": value}):
                with pytest.raises(ValidationError) as caught:
                    table.model_validate({key: given})
                assert any(problem["loc"][:1] == (key,) for problem in caught.value.errors()), (table, key, given)


def takes_float(field):
    return "float" in str(field.annotation)


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


def test_a_device_as_input_file(job, refused):
    refused(job.command("check", "/dev/zero"), "/dev/zero: 1048577 bytes", "at most 1048576")


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


def test_control_characters_in_the_name_of_an_input_file(job, refused):
    (job.folder / "jo\x1b[2Jb.toml").write_text("[run]\nname = 1\n")
    shown = r"jo\x1b[2Jb.toml"
    refused(job.command("check", str(job.folder / "jo\x1b[2Jb.tom")), "no such file", f"{shown}?")
    (job.folder / "jo\x1b[2Jb.toml").write_text("[run]\nname = ")
    refused(job.command("check", str(job.folder / "jo\x1b[2Jb.toml")), f"{shown}: is not valid TOML")
    job.input.unlink()
    refused(job.command("check", str(job.folder)), f"it holds {shown}.")


def test_folder_as_input_file(job, refused):
    refused(job.command("check", str(job.folder)), f"{job.folder}: is a folder", "it holds job.toml.")


SETTINGS = {
    "dotted key too long": (f"run.{'a.' * 40_000}b=1", "--set run.a.a", "a key or number of 80005 characters"),
    "too many parts": (f"run.{'a.' * 40}b=1", "a key of 42 parts"),
    "dotted key in a value": (f"run.seed={{{'a.' * 40_000}b=1}}", "a key or number of 80001 characters"),
    "nested value": (f"run.seed={'[' * 5000}{']' * 5000}", "brackets nested 5000 deep"),
    "number too long": (f"run.seed={'9' * 5000}", "a key or number of 5000 characters"),
    "not a number": ("phase.first.rate=nan", "rate = nan: expected a finite number"),
    "infinite": ("phase.first.rate=1e999", "rate = inf: expected a finite number"),
    "NUL": ("run.name=a\0b", 'name = "a\\x00b"', "letters, digits"),
    "control characters": ("run.\x1b[2J=1", "unknown key '\\x1b[2J'"),
    "control characters, no phase": ("phase.\x1b[2J.rate=1", "--set phase.\\x1b[2J.rate=1", "no phase is named"),
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
