"""A predict phase that cannot be: each mistake one sentence, in the text, in the plan, or before the first sample."""

import numpy as np
import pytest

TITLE = '[[phase]] "use"'
PHASE = """
[[phase]]
kind = "predict"
name = "use"
network = "first"
file = "new.h5"
"""
# replace the first by the second -> words of the message; found by check
TEXT = {
    "file and data": ('file = "new.h5"', 'file = "new.h5"\ndata = "set"', "file and data are both given"),
    "no such file": ('"new.h5"', '"now.h5"', f'{TITLE}: file = "now.h5"', "did you mean"),
    "no such network": ('network = "first"', 'network = "frist"', "'frist'", "did you mean 'first'?"),
    "no such network's file": ('network = "first"', 'network = "net.onnx"', "net.onnx is not a file"),
    "no such set": ('file = "new.h5"', 'data = "set"', "no earlier preprocess phase has that name"),
    "unknown output": ('file = "new.h5"', 'file = "new.h5"\noutputs = ["label"]', "outputs", "labels"),
    "microbatch larger than batch": (
        'file = "new.h5"',
        'file = "new.h5"\nbatch_size = 4\nmicrobatch_size = 8',
        "larger",
    ),
}
# found by the run: what is added to the phase -> words of the message
RUN = {
    "part of new files": ('part = "test"', "new files are not divided into parts"),
    "values of classes": ('outputs = ["values"]', 'outputs = "values"', "classification", "labels, probabilities"),
    "no such dataset": ('inputs = "image"', "new.h5: has no dataset 'image'", "did you mean 'images'"),
    "no such column": ('copy_along = ["event"]', "new.h5: has no dataset 'event'"),
    "column of another length": ('copy_along = ["few"]', "'images' has 240 samples but 'few' has 3"),
    "column of a name of our own": ('copy_along = ["labels"]', 'copy_along = "labels"', "targets ="),
    "values as labels": ('targets = "images"', "targets = 'images' has type float32", "class labels"),
    "labels that the network does not have": ('targets = "classes"', "class 9 among the targets", "0 to 2"),
    "an empty dataset": ('inputs = "nothing"', "'nothing' is empty", "at least one sample"),
    "samples of another shape": (
        'inputs = "wide"',
        "the samples of 'wide' have the shape 5 x 4",
        "the network first takes 4 x 4",
    ),
}


@pytest.fixture
def use(job):
    """The good job with a predict phase instead of evaluate, and a file of new samples."""
    text = job.input.read_text().partition('[[phase]]\nkind = "evaluate"')[0]
    job.input.write_text(text + PHASE)
    more = {"few": np.arange(3), "classes": np.full(240, 9), "wide": np.zeros((240, 5, 4), np.float32)}
    job.store("new.h5", nothing=np.zeros((0, 4, 4), np.float32), **more)
    return job


@pytest.mark.parametrize("name", TEXT)
def test_mistake_in_the_text(use, refused, name):
    old, new, *words = TEXT[name]
    use.edit((old, new))
    refused(use.check(), f"{use.input}: ", *words)


def test_mistakes_found_by_the_run(use, refused):
    """One after the other, of one trained network."""
    assert use.run("--until", "first").code == 0
    for key, *words in RUN.values():
        use.edit((PHASE, f"{PHASE}{key}\n"))
        refused(use.run(), *words)
        use.edit((f"{PHASE}{key}\n", PHASE))


def test_a_sample_that_is_not_finite(use, refused):
    """Found by one of two ranks, told by one and raised on both; which sample it is is said."""
    images = np.zeros((240, 4, 4), np.float32)
    images[201, 2, 3] = np.nan
    use.store("new.h5", images=images)
    told = use.launch(2)
    refused(told, "new.h5: the outputs for sample 201 of 'images' are not finite", "its inputs", code=1)


def test_no_sample_in_the_part(use, refused):
    use.edit(('file = "new.h5"\n', ""), ("[network]", "test = 0.0\n[network]"))
    refused(use.run(), TITLE, 'part = "test": of the 240 samples none is in that part')
