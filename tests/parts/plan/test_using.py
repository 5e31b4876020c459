"""Which phases need which: sets of samples, networks, exported files; and what is told when that cannot be."""

import pytest

from app.errors import InputError
from app.inputfile import read_input
from app.plan.plan import make_plan

HEAD = """
[run]
name = "job"
[data]
phase = "clean"
inputs = "x"
targets = "y"
[network]
kind = "mlp"
"""
CLEAN = '[[phase]]\nkind = "preprocess"\nname = "clean"\nfile = "raw.csv"\nvalidation = 0.2\ntest = 0.3\n'
TRAIN = '[[phase]]\nkind = "train"\nname = "net"\n'
EXPORT = '[[phase]]\nkind = "export"\nname = "out"\nint8 = true\n'
PREDICT = '[[phase]]\nkind = "predict"\nname = "fresh"\n'
ALONE = '[run]\nname = "job"\n'


def planned(text: str, done: tuple[str, ...] = ()):
    """The plan of an input file on two ranks."""
    return make_plan(read_input(text, "job.toml"), 2, done)


def test_the_chain_of_phases():
    plan = planned(HEAD + CLEAN + TRAIN + EXPORT + PREDICT)
    clean, train, export, predict = plan.phases
    assert (clean.networks, clean.needs) == ((), ())
    assert (train.networks, train.needs) == ((), ("clean",))
    assert (export.networks, export.source) == (("net",), "net")
    assert (predict.networks, predict.source) == ((), "out")
    assert set(predict.needs) == {"clean", "out"}
    assert [step.makes for step in plan.phases] == [
        "data/clean.h5",
        "networks/net.h5",
        "exports/out.*",
        "predictions/fresh.h5",
    ]


def test_the_shares_of_a_divided_set_are_those_of_data():
    given = planned(HEAD + CLEAN + TRAIN).input
    assert (given.data.validation, given.data.test) == (0.2, 0.3)
    whole = planned(HEAD + CLEAN.replace("validation = 0.2\ntest = 0.3\n", "") + TRAIN).input
    assert (whole.data.validation, whole.data.test) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("network", "source"),
    [("", "out"), ("net", "net"), ("out", "out"), ("out.int8", "out.int8"), ("other.onnx", "other.onnx")],
)
def test_what_predict_takes(network, source):
    key = f'network = "{network}"\n' if network else ""
    predict = planned(HEAD + CLEAN + TRAIN + EXPORT + PREDICT + key).phases[-1]
    assert predict.source == source
    assert predict.networks == (("net",) if source == "net" else ())


def test_a_set_that_is_made_anew_is_used_anew():
    text = HEAD + CLEAN + TRAIN + EXPORT + PREDICT
    assert [step.done for step in planned(text, ("clean", "net", "out", "fresh")).phases] == [True] * 4
    assert [step.done for step in planned(text, ("net", "out", "fresh")).phases] == [False] * 4
    assert [step.done for step in planned(text, ("clean", "net", "fresh")).phases] == [True, True, False, False]


def test_phases_that_go_without_data_and_network():
    text = ALONE + CLEAN + PREDICT + 'data = "clean"\nnetwork = "other.onnx"\n'
    plan = planned(text)
    assert not plan.input.has_data
    assert plan.phases[1].needs == ("clean",)


MISTAKES = {
    "no such set": (
        HEAD + CLEAN.replace('"clean"', '"cleen"') + TRAIN,
        "[data] phase = 'clean'",
        "did you mean 'cleen'?",
    ),
    "no set": (HEAD.replace('"clean"', '"net"') + CLEAN + TRAIN, "[data] phase = 'net': that phase makes no set"),
    "too late": (HEAD + TRAIN + CLEAN, "[data] phase = 'clean': it comes after 'net'", "put it before"),
    "two shares": (HEAD.replace("[network]", "test = 0.1\n[network]") + CLEAN + TRAIN, "is divided by that phase"),
    "no samples": (ALONE + PREDICT + 'network = "a.onnx"\n', '"fresh": there is no [data]; say by file or data'),
    "no such samples": (ALONE + CLEAN + PREDICT + 'data = "clea"\nnetwork = "a.onnx"\n', "did you mean 'clean'?"),
    "no network": (ALONE + CLEAN + PREDICT + 'data = "clean"\n', "predict needs a network"),
    "exported twice": (HEAD + CLEAN + TRAIN + EXPORT + 'network = "a.onnx"\n', "it is exported already"),
    "not quantised": (
        HEAD + CLEAN + TRAIN + EXPORT.replace("true", "false") + PREDICT + 'network = "out.int8"\n',
        "the phase 'out' quantises nothing",
    ),
    "no ONNX": (
        HEAD + CLEAN + TRAIN + EXPORT.replace("int8 = true", 'formats = ["weights"]') + PREDICT,
        "network = 'out': that phase writes no ONNX file",
    ),
    "misspelt": (HEAD + CLEAN + TRAIN + EXPORT + PREDICT + 'network = "outt"\n', "did you mean 'out'?"),
    "file and phase": (
        HEAD.replace("phase =", 'file = "a.h5"\nphase =') + CLEAN + TRAIN,
        "file and phase are both given",
    ),
    "neither": (HEAD.replace('phase = "clean"\n', "") + CLEAN + TRAIN, "file and phase are both missing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    text, *words = MISTAKES[mistake]
    with pytest.raises(InputError) as caught:
        planned(text)
    told = "\n".join(caught.value.problems)
    assert all(word in told for word in words), told
