"""What is wrong with a prune phase: in the text, in the plan, and found when it runs."""

import pytest

PRUNE = '\n[[phase]]\nkind = "prune"\nname = "thin"\nepochs = 1\nbatch_size = 40\nmicrobatch_size = 10\n'
EVALUATE = '\n[[phase]]\nkind = "evaluate"\nname = "test-of-first"\n'
TRAIN = '[[phase]]\nkind = "train"\nname = "first"\nepochs = 1\nbatch_size = 40\nmicrobatch_size = 10\n'
KNOWN = "sample_shape = [4, 4]\nclasses = 3\n[network]"  # what lets check count the layers

# keys of the prune phase -> words of the message
TEXT = {
    "share of all": ("remove = 1.0", "remove = 1.0", "less than 1"),
    "share of nothing": ("remove = 0.0", "remove = 0.0", "more than 0"),
    "unknown method": ('method = "weight"', 'method = "weight"', '"magnitude", "sparsity", "effect" or "random"'),
    "unknown units": ('units = "neurons"', 'units = "neurons"', '"channels", "connections" or "2:4"'),
    "unknown target": ('target = "flops"', 'target = "flops"', '"operations", "parameters" or "units"'),
    "unknown key": ("removes = 0.5", "unknown key 'removes'", "did you mean 'remove'?"),
    "strength of nothing": ("strength = 0", "strength = 0", "more than 0"),
    "no rounds": ("rounds = 0", "rounds = 0", "at least 1"),
    "one level": ("levels = 1", "levels = 1", "at least 2"),
    "all units": ("most = 1.0", "most = 1.0", "less than 1"),
    "rounds of what went to zero": (
        'method = "sparsity"\nrounds = 2',
        "method sparsity without remove cuts what went to zero, once",
        "give remove for more rounds",
    ),
    "growing without a share": (
        'method = "sparsity"\npenalty = "growing"',
        'penalty = "growing" decays what is chosen before; give remove',
    ),
    "accuracy_loss in one round": ("accuracy_loss = 0.1", "accuracy_loss wants rounds of 2 or more"),
    "another share of two in four": (
        'units = "2:4"\nremove = 0.5',
        "removes one half of the connections",
        "remove out",
    ),
    "scan of connections": (
        'units = "connections"\nmethod = "effect"\nmeasure = "scan"',
        'measure = "scan" wants units = "channels"',
        'measure = "taylor"',
    ),
    "scales of connections": (
        'units = "2:4"\nmethod = "sparsity"\npenalty = "scale"',
        'penalty = "scale" wants units = "channels"',
    ),
    "microbatch larger than the batch": ("microbatch_size = 80", "microbatch_size = 80 is larger than batch_size = 40"),
}


def pruned(job, *keys, network="", shape=False):
    """The good job with a prune phase before its evaluation."""
    text = PRUNE + "\n".join(keys) + "\n"
    if any(key.startswith("microbatch_size") for key in keys):
        text = text.replace("microbatch_size = 10\n", "")
    job.edit((EVALUATE, text + EVALUATE))
    if network:
        job.edit(('kind = "mlp"\nwidths = [8]', network))
    if shape:
        job.edit(("[network]", KNOWN))


@pytest.mark.parametrize("name", TEXT)
def test_mistake_in_the_keys(job, refused, name):
    keys, *words = TEXT[name]
    pruned(job, keys)
    refused(job.check(), f'{job.input}: [[phase]] "thin": ', *words)


def test_no_network_before(job, refused):
    pruned(job)
    job.edit((TRAIN, ""))
    refused(job.check(), '[[phase]] "thin": prune needs a network', "put a train phase before it")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("thin", ("that phase comes later", "networks so far: first")),
        ("last", ("that phase comes later", "networks so far: first")),
        ("frist", ("no earlier phase has that name", "did you mean 'first'?")),
    ],
)
def test_network_of_no_earlier_phase(job, refused, network, words):
    pruned(job, f'network = "{network}"')
    job.edit((EVALUATE, f"{TRAIN.replace('first', 'last')}{EVALUATE}"))
    refused(job.check(), f"[[phase]] \"thin\": network = '{network}'", *words)


@pytest.mark.parametrize("keys", ['method = "effect"\nmeasure = "scan"', "rounds = 2\naccuracy_loss = 0.1"])
def test_nothing_to_measure_a_cut_on(job, refused, keys):
    pruned(job, keys)
    job.edit(("[network]", "validation = 0\n[network]"))
    refused(job.check(), '[[phase]] "thin": [data] validation = 0: there is nothing to measure the effect of a cut on')


@pytest.mark.parametrize("units", ["channels", "connections"])
def test_layers_that_are_none(job, refused, units):
    """Known to the plan with the sample's shape, else found when the phase begins."""
    pruned(job, f'units = "{units}"', 'keep_layers = ["hiden1", "output", "hiden1", "x"]')
    words = ('[[phase]] "thin": keep_layers: the network has no layer', "'hiden1'; did you mean 'hidden1'?")
    refused(job.run(), *words, "'x'; known: hidden1, output", lines=2)
    job.edit(("[network]", KNOWN))
    refused(job.check(), f"{job.input}: {words[0]}", words[1], "'x'; known: hidden1, output", lines=2)


# network; keys of the prune phase -> words of the message, when it runs
RUN = {
    "more than can be removed": (
        "",
        "remove = 0.9\nmost = 0.5",
        "operations cannot be brought to 30: with the fewest units of every group (hidden1.linear) there are 152 left",
        "a smaller remove, a larger most, or name fewer keep_layers",
    ),
    "all layers stay": (
        "",
        'keep_layers = ["hidden1"]',
        "the network has no units that can be removed",
        'units = "connections"',
    ),
    "no hidden layer": (
        'kind = "mlp"\nwidths = []',
        "",
        "the network has no units that can be removed; layers that give its outputs stay",
    ),
    "scales without normalisations": (
        "",
        'method = "sparsity"\npenalty = "scale"',
        'penalty = "scale" wants normalisation layers beside the units',
        'give penalty = "lasso"',
    ),
    "too strong": (
        "",
        'method = "sparsity"\nstrength = 1e3\npenalty_epochs = 1',
        "strength = 1000.0 drove every unit of hidden1.linear to zero; give less, or fewer penalty_epochs",
    ),
    "two of four without such layers": (
        'kind = "mlp"\nwidths = [9]',
        'units = "2:4"\nkeep_layers = ["hidden1"]',
        "no linear or convolutional layers whose input channels four divides but those in keep_layers",
    ),
    "no connections": (
        "",
        'units = "connections"\nkeep_layers = ["hidden1", "output"]',
        "no linear or convolutional layers but those in keep_layers, so there is nothing to remove",
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_mistake_found_when_it_runs(job, refused, name):
    network, keys, *words = RUN[name]
    pruned(job, keys, network=network)
    refused(job.run(), '[[phase]] "thin": ', *words)


OWN = """
from torch import nn


class Apart(nn.Module):
    def forward(self, inputs):
        if inputs.requires_grad and not self.training:
            raise ValueError("not in evaluation with gradients")
        return inputs


def network(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Apart(), nn.Linear(8, outputs))
"""


def test_a_network_that_cannot_be_followed(job, refused):
    """Its layers do with gradients what torch-pruning cannot look at; connections could go."""
    (job.folder / "own.py").write_text(OWN)
    pruned(job, network='kind = "own.py:network"')
    refused(
        job.run(),
        "network: what its layers depend on cannot be followed (ValueError: not in evaluation with gradients)",
        'give units = "connections"',
    )


def test_two_of_four_of_a_transposed_convolution(job, refused):
    """Its second dim is the output channels, of which no hardware takes two of four."""
    layers = "nn.Unflatten(1, (16, 1)), nn.ConvTranspose1d(16, 4, 1), nn.Flatten(), nn.Linear(4, outputs)"
    (job.folder / "own.py").write_text(OWN.replace("nn.Linear(16, 8), Apart(), nn.Linear(8, outputs)", layers))
    pruned(job, 'units = "2:4"', 'keep_layers = ["4"]', network='kind = "own.py:network"')
    refused(job.run(), "no linear or convolutional layers whose input channels four divides but those in keep_layers")


def test_a_batch_that_leaves_one_sample(job, refused):
    """Batch norm has no statistics of one sample: said before the cut takes them anew."""
    (job.folder / "own.py").write_text(OWN.replace("Apart()", "nn.BatchNorm1d(8)"))
    pruned(job, "microbatch_size = 13", network='kind = "own.py:network"')
    refused(job.run(), '[[phase]] "thin": ', "leave a microbatch of 1 sample", "batch normalisation (layer '2')")
