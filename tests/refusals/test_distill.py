"""A distill phase that cannot be: each mistake one sentence, in the text, in the plan, or before the first step."""

import numpy as np
import pytest

from tests.refusals.test_networks import FUNCTIONS

PHASE = """
[[phase]]
kind = "distill"
name = "pupil"
teacher = "first"
student = {kind = "mlp", widths = [4]}
epochs = 1
batch_size = 40
microbatch_size = 10
"""
STUDENT = 'student = {kind = "mlp", widths = [4]}'
KNOWN = "sample_shape = [4, 4]\nclasses = 3\n[network]"
TITLE = '[[phase]] "pupil": '

# replace the first by the second -> words of the message; found by check
TEXT = {
    "no teacher": ('teacher = "first"\n', "", "the key 'teacher' is missing", "an earlier phase"),
    "empty list of teachers": ('teacher = "first"', "teacher = []", "teacher = []: expected at least 1 in the list"),
    "no student": (STUDENT, "", "one of network, student and layers says what the student is; none is given"),
    "two students": (STUDENT, f'{STUDENT}\nnetwork = "first"', "network and student are given"),
    "student of no kind": (STUDENT, "student = {widths = [4]}", "pupil", "student", "the key 'kind' is missing"),
    "student of an unknown kind": (STUDENT, 'student = {kind = "mpl"}', "student", "did you mean 'mlp'?", '"lenet"'),
    "student with an unknown key": (
        STUDENT,
        'student = {kind = "mlp", widhts = [4]}',
        f"{TITLE}student: unknown key 'widhts'; did you mean 'widths'?",
    ),
    "student with a wrong value": (
        STUDENT,
        'student = {kind = "mlp", widths = ["4"]}',
        f'{TITLE}student: widths[0] = "4": expected a whole number',
        "outputs of each hidden layer",
    ),
    "student that is no table": (STUDENT, 'student = "mlp"', 'student = "mlp": expected a table', "as [network]"),
    "temperature of zero": (STUDENT, f"{STUDENT}\ntemperature = 0", "temperature = 0: expected more than 0"),
    "soft above one": (STUDENT, f"{STUDENT}\nsoft = 1.5", "soft = 1.5: expected at most 1"),
    "function of no name": ('"first"\nstudent', '"own.py:a-b"\nstudent', 'is named "file.py:function"'),
    "teacher that comes later": ('"first"\nstudent', '"pupil"\nstudent', "teacher = 'pupil'", "comes later"),
    "unknown teacher": (
        '"first"\nstudent',
        '"frist"\nstudent',
        "no earlier phase has that name",
        "did you mean 'first'",
    ),
    "missing file": ('"first"\nstudent', '"frist.h5"\nstudent', f'{TITLE}teacher = "frist.h5": ', "is not a file"),
    "missing file of a function": ('"first"\nstudent', '"net.py:f"\nstudent', "net.py is not a file"),
    "missing file of a student": (STUDENT, 'student = {kind = "net.py:f"}', "student: kind", "net.py is not a file"),
    "student of tokens": (
        STUDENT,
        'student = {kind = "transformer", vocabulary = 9}',
        f"{TITLE}student takes tokens (vocabulary = 9), but [network] takes features",
    ),
}
# with the samples' shape in the input file
LAYERS = {
    "unknown layer of the student": (STUDENT, f'{STUDENT}\nhints = {{hidden = "hidden1"}}', "the student has no layer"),
    "unknown layer of the teacher": (
        STUDENT,
        f'{STUDENT}\nhints = {{hidden1 = "hidden"}}',
        "hints: teacher 'first' has no layer 'hidden'; did you mean 'hidden1'?",
    ),
    "unknown layer handed over": (STUDENT, 'layers = ["hidden2", "output"]', "layers: teacher 'first' has no layer"),
    "student that does not go with the samples": (
        STUDENT,
        'student = {kind = "transformer", width = 6, heads = 4}',
        f"{TITLE}student: ",
        "width = 6",
    ),
}
# found by the run, after the teacher was trained
RUN = {
    "unknown layer of the student": (f'{STUDENT}\nhints = {{hiden1 = "hidden1"}}', "did you mean 'hidden1'?"),
    "unknown layer of the teacher": (
        f'{STUDENT}\nhints = {{hidden1 = "hiden1"}}',
        "hints: teacher 'first' has no layer 'hiden1'; did you mean 'hidden1'?",
    ),
    "layers that cannot be compared": (
        'student = {kind = "lenet"}\nhints = {convolution1 = "hidden1"}',
        'hints: convolution1 = "hidden1": outputs of shape (6, 2, 2)',
        "of shape (8,)",
        "as many dims",
    ),
    "unknown layer handed over": ('layers = ["hidden2", "output"]', "layers of teacher 'first': there is no layer"),
    "another order": ('layers = ["output", "hidden1"]', "expected once each, in the order hidden1, output"),
    "layers that do not fit": ('layers = ["output"]', "layers of teacher 'first': layer 'output'", "failed"),
    "layers without outputs": ('layers = ["hidden1"]', "layers of teacher 'first'", "must be 3"),
    "student's own function": ('student = {kind = "nets.py:raises"}', "student: ", "KeyError: 'no such preset'"),
}


@pytest.fixture
def pupil(job):
    """The good job with a distill phase instead of evaluate."""
    text = job.input.read_text().partition('[[phase]]\nkind = "evaluate"')[0]
    job.input.write_text(text + PHASE)
    (job.folder / "nets.py").write_text(FUNCTIONS)
    return job


@pytest.mark.parametrize("name", TEXT)
def test_mistake_in_the_text(pupil, refused, name):
    old, new, *words = TEXT[name]
    pupil.edit((old, new))
    refused(pupil.check(), f"{pupil.input}: ", '[[phase]] "pupil"', *words)


@pytest.mark.parametrize("name", LAYERS)
def test_mistake_in_the_layers(pupil, refused, name):
    old, new, *words = LAYERS[name]
    pupil.edit((old, new), ("[network]", KNOWN))
    refused(pupil.check(), f"{pupil.input}: {TITLE}", *words)


@pytest.mark.parametrize("name", RUN)
def test_mistake_found_by_the_run(pupil, refused, name):
    new, *words = RUN[name]
    pupil.edit((STUDENT, new))
    refused(pupil.run(), TITLE, *words)


def test_notes_on_keys_without_effect(pupil):
    pupil.edit((STUDENT, f'{STUDENT}\nsoft = 0\nhints = {{hidden1 = "hidden1"}}\nhint_weight = 0'))
    told = pupil.check()
    assert told.code == 0
    assert "hint_weight = 0: the hints have no effect" in told.out
    assert "no teacher is played" in told.out


def test_hints_of_the_students_own_network_with_two_stages(pupil, refused):
    """Every rank finds it, and one speaks."""
    pupil.edit((STUDENT, f'{STUDENT}\nhints = {{output = "hidden1"}}'), ("hidden1", "hidden7"))
    refused(pupil.launch(2, "--set", "grid.stages=2"), "teacher 'first' has no layer 'hidden7'")


@pytest.fixture
def other(pupil):
    """A second job whose teacher is the network file of the first: other(INPUT TEXT changes...) is its job."""
    assert pupil.run("--set", "phase.pupil.soft=0").code == 0

    def changed(*edits):
        pupil.edit(('"first"\nstudent', '"results/networks/first.h5"\nstudent'), *edits)
        pupil.edit((f'folder = "{pupil.results}"', f'folder = "{pupil.folder / "second"}"'))
        return pupil

    return changed


def test_a_teacher_of_other_samples(other, refused):
    job = other()
    job.store(images=np.zeros((240, 4, 5), np.float32) + np.arange(240)[:, None, None])
    refused(job.run(), f'{TITLE}teacher = "results', "samples of shape (4, 4), but those of this run have (4, 5)")


def test_a_teacher_of_other_outputs(other, refused):
    job = other(("[network]", "classes = 5\n[network]"))
    refused(job.run(), f'{TITLE}teacher = "results', "it has 3 outputs, but the data of this run need 5")


def test_a_teacher_of_features_for_tokens(other, refused):
    table = 'student = {kind = "transformer", vocabulary = 9}'
    job = other(('"mlp"\nwidths = [8]', '"transformer"\nvocabulary = 9'), (STUDENT, table))
    job.store(images=np.arange(240 * 4).reshape(240, 4) % 9)
    refused(job.run(), "it takes features, but the samples of this run are tokens below 9", lines=2)


def test_a_damaged_teacher(other, refused):
    job = other()
    path = job.results / "networks" / "first.h5"
    path.write_bytes(path.read_bytes()[:-50])
    refused(job.run(), f'{TITLE}teacher = "results/networks/first.h5": ', "truncated")


def test_a_teacher_that_is_no_network(other, refused):
    job = other(("networks/first.h5", "run.h5"))
    refused(job.run(), f"{TITLE}teacher = ", "kind is 'run', expected 'network'")


def test_a_function_that_fails(pupil, refused):
    pupil.edit(('"first"\nstudent', '"nets.py:raises"\nstudent'))
    refused(pupil.run(), f'{TITLE}teacher = "nets.py:raises"', "KeyError: 'no such preset'")


def test_a_function_of_other_outputs(pupil, refused):
    pupil.edit(('"first"\nstudent', '"nets.py:other_outputs"\nstudent'))
    refused(pupil.run(), f'{TITLE}teacher = "nets.py:other_outputs"', "must be 3")


def test_outputs_that_are_not_finite(pupil, refused):
    (pupil.folder / "bad.py").write_text(
        "import torch\nfrom torch import nn\n\ndef network(sample_shape, outputs):\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))\n"
        "    nn.init.constant_(net[1].bias, float('nan'))\n    return net\n"
    )
    pupil.edit(('"first"\nstudent', '"bad.py:network"\nstudent'))
    refused(pupil.run(), f'{TITLE}teacher = "bad.py:network": its outputs for sample', "not finite numbers", code=1)
