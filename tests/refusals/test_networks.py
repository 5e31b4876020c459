"""The user's own network: whatever is wrong with it is one sentence, before the first step."""

import numpy as np
import pytest
import torch
from torch import nn

FUNCTIONS = """
import torch
from torch import nn

def good(sample_shape, outputs, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, outputs))

class Module(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.linear = nn.Linear(16, outputs)
    def forward(self, inputs):
        return self.linear(inputs.flatten(1))

def module(sample_shape, outputs):
    return Module(outputs)

def raises(sample_shape, outputs):
    raise KeyError("no such preset")

def returns_nothing(sample_shape, outputs):
    nn.Linear(16, outputs)

def other_inputs(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(17, outputs))

def other_outputs(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs + 1))

def module_of_other_outputs(sample_shape, outputs):
    return Module(outputs + 1)

def per_row(sample_shape, outputs):
    return nn.Sequential(nn.Linear(4, outputs))

def flat(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(0), nn.Linear(32, outputs))

def lazy(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))

def constant(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(outputs))

class Pair(Module):
    def forward(self, inputs):
        return super().forward(inputs), inputs

def pair(sample_shape, outputs):
    return Pair(outputs)

class Moody(Module):
    def forward(self, inputs):
        if self.training:
            raise RuntimeError("not while training")
        return super().forward(inputs)

def moody(sample_shape, outputs):
    return Moody(outputs)

def functions(sample_shape, outputs):
    return {"flat": nn.Flatten, "hidden": lambda: nn.Linear(16, 8), "output": lambda: nn.Linear(8, outputs)}

def layers_in_a_list(sample_shape, outputs):
    return [nn.Flatten(), nn.Linear(16, outputs)]

def no_functions(sample_shape, outputs):
    return []

def dotted(sample_shape, outputs):
    return {"net.flat": nn.Flatten}

def function_of_width(sample_shape, outputs):
    return [nn.Flatten, lambda width: nn.Linear(16, width)]

def function_of_nothing(sample_shape, outputs):
    return [nn.Flatten, lambda: None]

def lazy_function(sample_shape, outputs):
    return [nn.Flatten, lambda: nn.LazyLinear(outputs)]

def one_for_all(sample_shape, outputs):
    linear = nn.Linear(16, outputs)
    return [nn.Flatten, lambda: linear]

def normed(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs))

def spatially_normed(sample_shape, outputs):
    return nn.Sequential(nn.Unflatten(1, (1, 4)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, outputs))

number = 5
"""


@pytest.fixture
def nets(job):
    """The good job with networks of the user's own."""
    (job.folder / "nets.py").write_text(FUNCTIONS)
    job.edit(('"mlp"\nwidths = [8]', '"nets.py:good"'))
    return job


# function -> words of the message
WRONG = {
    "gud": ("nets.py has no function 'gud'", "good"),
    "number": ("'number'", "is int, not a function"),
    "raises": ("nets.py:raises failed when called with ((4, 4), 3)", "line 19", "KeyError: 'no such preset'"),
    "returns_nothing": ("nets.py:returns_nothing returned NoneType", "an nn.Module is expected"),
    "other_inputs": ("layer '1'", "samples of shape (16,)", "failed: RuntimeError"),
    "other_outputs": ("outputs for one sample have shape (4,)", "must be 3"),
    "module_of_other_outputs": ("outputs for one sample have shape (4,)", "must be 3"),
    "per_row": ("outputs for one sample have shape (4, 3)", "'labels' has shape ()", "one row of outputs for each"),
    "flat": ("layer '0'", "the first dim must stay the samples"),
    "lazy": ("lazy modules", "give every size"),
    "constant": ("no parameters", "nothing to train"),
    "pair": ("returned tuple", "one tensor is expected"),
    "layers_in_a_list": ("'layer1' is Flatten, 'layer2' is Linear", "function without arguments", "nn.Sequential"),
    "no_functions": ("nets.py:no_functions returned no functions", "one for each layer"),
    "dotted": ("'net.flat' cannot be the name of a layer", "without '.'"),
    "function_of_width": ("layer 'layer2' failed when called without arguments", "TypeError", "'width'"),
    "function_of_nothing": ("the function of layer 'layer2' returned NoneType", "an nn.Module is expected"),
    "lazy_function": ("the function of layer 'layer2' has lazy modules", "give every size"),
    "one_for_all": ("layer 'layer2' returned a parameter that an earlier call returned", "nn.Sequential"),
    "moody": ("failed: RuntimeError: not while training",),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_function(nets, refused, name):
    nets.edit(("nets.py:good", f"nets.py:{name}"))
    refused(nets.run(), "network", *WRONG[name])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def good(:\n", ("reading", "nets.py failed in line 1", "SyntaxError")),
        ("import no_such_module\n", ("reading", "line 1", "ModuleNotFoundError: No module named 'no_such_module'")),
        ("raise SystemExit(3)\n", ("reading", "line 1", "SystemExit")),
    ],
)
def test_file_that_cannot_be_read(nets, refused, text, words):
    (nets.folder / "nets.py").write_text(text)
    refused(nets.run(), str(nets.folder / "nets.py"), *words)


def test_missing_file(nets, refused):
    nets.edit(("nets.py:good", "net.py:good"))
    refused(nets.check(), '[network] kind = "net.py:good"', "is not a file", 'did you mean "nets.py"?')


def test_unknown_option(nets, refused):
    nets.edit(("[[phase]]", "options = { widht = 4 }\n[[phase]]"))
    refused(nets.run(), "nets.py:good failed when called with ((4, 4), 3, widht=4)", "unexpected keyword argument")


def test_values_of_another_size(nets, refused):
    nets.store(labels=np.zeros((240, 3), np.float32))
    nets.edit(("[network]", 'task = "regression"\n[network]'), ("nets.py:good", "nets.py:per_row"))
    refused(nets.run(), "outputs for one sample have shape (4, 3)", "'labels' has shape (3,)", "as many outputs")


def test_one_output_a_token_and_one_label_a_sample(job, refused):
    job.edit(('"mlp"\nwidths = [8]', '"transformer"\nwidth = 8\nheads = 2\nblocks = 1\npooling = "none"'))
    refused(job.run(), "network: its outputs for one sample have shape (4, 3)", "'labels' has shape ()")


@pytest.mark.parametrize(
    ("keys", "classes", "problems"),
    [
        ('pooling = "none"', 3, ["tied = true", "without vocabulary the inputs are features"]),
        ("vocabulary = 9", 9, ["with tied = true every element has an output", "pooling = 'mean' leaves one"]),
        ('vocabulary = 9\npooling = "none"', 3, ["vocabulary = 9, but 3 are wanted", "give [data] classes = 9"]),
    ],
)
def test_weights_that_cannot_be_tied(job, refused, keys, classes, problems):
    """Known from the keys alone: `check` does not open the data."""
    network = f'"transformer"\ntied = true\nwidth = 8\nheads = 2\n{keys}'
    job.edit(('"mlp"\nwidths = [8]', network), ("[network]", f"sample_shape = [8]\nclasses = {classes}\n[network]"))
    refused(job.check(), "network transformer: ", *problems)


@pytest.mark.parametrize("name", ["good", "module", "normed", "functions"])
def test_good_functions_run(nets, name):
    """A Sequential, which is taken layer by layer, a network as a whole, and functions that make one layer each."""
    nets.edit(("nets.py:good", f"nets.py:{name}"))
    told = nets.run()
    assert (told.code, told.err) == (0, "")
    assert "test-of-first  evaluate  done" in told.out


def test_batch_norm_of_one_sample(nets, refused):
    """192 training samples in batches of 40 end with one of 32, and microbatches of 31 leave 9 and 1."""
    nets.edit(("nets.py:good", "nets.py:normed"), ("microbatch_size = 10", "microbatch_size = 31"))
    told = nets.run()
    refused(told, '[[phase]] "first"', "in batches of 40 and microbatches of 31", "1 sample", "layer '2'", "try ")
    batch, microbatch = (
        words.partition(",")[0].rstrip(".\n")
        for words in (told.err.partition("batch_size = ")[2], told.err.partition("microbatch_size = ")[2])
    )
    settings = (f"phase.first.batch_size={batch}", f"phase.first.microbatch_size={microbatch}")
    assert nets.run("--set", settings[0], "--set", settings[1]).code == 0, "the sizes it names are right"


def test_batch_norm_over_pixels_takes_one_sample(nets):
    nets.edit(("nets.py:good", "nets.py:spatially_normed"), ("microbatch_size = 10", "microbatch_size = 31"))
    assert nets.run().code == 0


def test_built_in_batch_norm_of_one_sample(job, refused):
    job.edit(
        ('"mlp"\nwidths = [8]', '"resnet"\nwidth = 4\nblocks = [1, 1, 1]\nnorm = "batch"'),
        ("microbatch_size = 10", "microbatch_size = 31"),
    )
    refused(job.run(), '[[phase]] "first"', "1 sample", "batch normalisation", "microbatch_size = ")


def test_looking_for_batch_norm_leaves_the_network_alone():
    from app.learning.batch_statistics import needs_two_samples

    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert needs_two_samples(network, torch.zeros(1, 3)) == ["1"]
    assert network.training
    assert not network[1]._forward_pre_hooks
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
