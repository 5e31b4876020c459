"""How chunks are executed: images in another order, layers compiled, samples copied ahead, gradients beside graphs."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from app.learning.devices import compiling, execution
from app.learning.devices.copies import InputCopies, Streams
from app.learning.devices.execution import PLAIN, Execution, choose_execution
from app.learning.devices.layout import channels_last, convolves, known
from app.learning.losses import loss
from app.learning.pipeline import Arrangement, Gradients, Pipeline
from app.learning.randomness import LayerRandomness
from app.networks.shapes import Boundary
from app.report.timers import Timers
from tests.parts.learning.test_pipeline import assert_same, batch_of, gradients_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (1, 8, 8)
ASKED = {"precision": "float32", "memory_format": "auto", "compile": False, "graphs": False, "stages": 1}
REORDERED = Execution(channels_last=frozenset({0}))


class Viewing(nn.Module):
    """A user's layer that takes memory to be in the plain order."""

    def forward(self, inputs):
        return inputs.view(len(inputs), -1)


def one_stage(network, execution, schedule="1f1b"):
    return Pipeline(
        {0: network},
        loss("cross_entropy"),
        CPU,
        entering={0: Boundary(SHAPE, torch.float32)},
        bf16=False,
        arrangement=Arrangement(schedule=schedule),
        inbox=None,
        timers=Timers(),
        execution=execution,
    )


def network(*last):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3)]
    return nn.Sequential(*layers, *(last or [nn.Flatten()]), nn.Dropout(0.3), nn.Linear(24, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_the_other_order_are_the_same_images(channels):
    plain = torch.randn(4, channels, 5, 6)
    found = channels_last(plain)
    assert torch.equal(found, plain)
    outputs = nn.Conv2d(channels, 7, 3)(found)
    assert outputs.is_contiguous(memory_format=torch.channels_last)
    assert not outputs.is_contiguous()


@pytest.mark.parametrize("shape", [(4, 9), (4, 3, 9), (2, 3, 4, 5, 6)])
def test_what_is_no_image_stays(shape):
    plain = torch.randn(shape)
    assert channels_last(plain) is plain


def test_a_network_learns_the_same_in_either_order():
    batch = batch_of(SHAPE)
    plain = gradients_of(one_stage(network(), PLAIN), batch)
    assert_same(gradients_of(one_stage(network(), REORDERED), batch), plain, rtol=1e-4)


@pytest.mark.parametrize(
    ("device", "asked", "reordered"),
    [
        (CPU, {}, False),
        (CPU, {"precision": "bf16"}, True),
        (CPU, {"precision": "bf16", "memory_format": "contiguous"}, False),
        (CPU, {"memory_format": "channels_last"}, True),
        (CUDA, {}, False),
        (CUDA, {"precision": "tf32"}, True),
        (CUDA, {"precision": "bf16"}, True),
        (torch.device("mps"), {"precision": "bf16"}, False),
    ],
)
def test_images_are_reordered_where_it_pays(device, asked, reordered):
    chunks = {0: network(), 1: nn.Sequential(nn.Linear(3, 3))}
    found = choose_execution(chunks, device, **(ASKED | asked))
    assert found.channels_last == (frozenset({0}) if reordered else frozenset())


def test_by_itself_nothing_is_reordered_that_a_user_wrote():
    chunk = network(Viewing())
    assert convolves(chunk)
    assert not known(chunk)
    assert choose_execution({0: chunk}, CPU, **(ASKED | {"precision": "bf16"})) == PLAIN
    asked = ASKED | {"memory_format": "channels_last"}
    assert choose_execution({0: chunk}, CPU, **asked).channels_last == {0}


@pytest.mark.parametrize(
    ("device", "stages", "trouble", "found"),
    [
        (CUDA, 1, "", Execution(compiled=True, graphs=True)),
        (CUDA, 2, "", Execution(compiled=True)),
        (CPU, 1, "", Execution(compiled=True)),
        (CUDA, 1, "no Triton", PLAIN),
    ],
)
def test_what_is_compiled_and_replayed(monkeypatch, device, stages, trouble, found):
    monkeypatch.setattr(execution.compiling, "trouble", lambda device: trouble)
    asked = ASKED | {"compile": True, "graphs": True, "stages": stages}
    assert choose_execution({0: network()}, device, **asked) == found


def test_why_nothing_can_be_compiled(monkeypatch):
    def fails(function, **options):
        raise RuntimeError("\n  Cannot find a working triton installation\nmore")

    monkeypatch.setattr(torch, "compile", fails)
    compiling.trouble.cache_clear()
    try:
        assert compiling.trouble(CPU) == "RuntimeError: Cannot find a working triton installation"
    finally:
        compiling.trouble.cache_clear()


@pytest.fixture
def compiled_pieces(monkeypatch):
    """What torch is asked to compile; it traces, and runs what it traced as it is, which takes no compiler."""
    asked = []
    original = torch.compile

    def compile_(what, *, dynamic, mode):
        asked.append(what)
        return original(what, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_)
    return asked


def test_a_compiled_network_learns_the_same_with_its_dropout(compiled_pieces):
    """Batches after the first too: the key of the random numbers is another one in each."""
    found = []
    for how in (PLAIN, Execution(compiled=True)):
        chunk = network()
        pipeline = one_stage(chunk, how)
        gradients = Gradients(pipeline, LayerRandomness(chunk, 7, "test"), lambda number: None)
        losses = []
        for epoch in range(3):
            gradients(batch_of(SHAPE), epoch)
            losses.append(gradients.loss.item())
        found.append((losses, [parameter.grad for parameter in chunk.parameters()]))
        assert len({round(loss, 6) for loss in losses}) == 3  # dropout is at work
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)
    assert [len(list(piece)) for piece in compiled_pieces] == [6, 1]  # before and after dropout, which has a hook


def test_hooks_of_a_compiled_layer_are_called_each_time(compiled_pieces):
    seen = []
    chunk = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    chunk[1].register_forward_pre_hook(lambda layer, inputs: seen.append("before"))
    chunk[1].register_forward_hook(lambda layer, inputs, outputs: outputs + 1)
    run = Execution(compiled=True).of(0, chunk)
    inputs = torch.randn(2, 3)
    for _ in range(2):
        torch.testing.assert_close(run(inputs), chunk(inputs))
    assert seen == ["before"] * 4
    chunk[0] = nn.Linear(3, 3)  # as sparse layers take the place of dense ones
    torch.testing.assert_close(run(inputs), chunk(inputs))


def test_gradients_beside_graphs_are_kept_in_memory_of_our_own(monkeypatch):
    """As replays write over what they gave out; with each schedule, as not each has a backward pass at once."""
    begun = []
    monkeypatch.setattr(compiling, "begin_replay", partial(begun.append, 1))
    for schedule, replays in (("1f1b", 4), ("gpipe", 1)):
        batch = batch_of(SHAPE)
        plain = gradients_of(one_stage(network(), PLAIN, schedule), batch)
        chunk = network()
        pipeline = one_stage(chunk, Execution(graphs=True), schedule)
        gradients = Gradients(pipeline, LayerRandomness(chunk, 7, "test"), lambda number: None)
        places = []
        begun.clear()
        for _ in range(2):
            for parameter in chunk.parameters():
                parameter.grad = None
            gradients(batch, 0)
            places.append([parameter.grad.data_ptr() for parameter in chunk.parameters()])
        assert places[0] == places[1]
        assert len(begun) == 2 * replays
        assert_same((gradients.loss.item(), [parameter.grad for parameter in chunk.parameters()]), plain)


class Stream:
    """Notes what it is told, in the order of all."""

    def __init__(self, name, told):
        self.name, self.told, self.events = name, told, 0

    def record_event(self):
        self.events += 1
        self.told.append(f"{self.name} recorded")
        return self.events

    def wait_event(self, event):
        self.told.append(f"{self.name} waits for {event}")


class Copied(torch.Tensor):
    """A sample in pinned memory whose copies are noted."""

    def to(self, device, non_blocking):
        Copied.told.append(f"copy of {int(self)} on {Copied.at[-1]}")
        return self.clone()

    def record_stream(self, stream):
        Copied.told.append(f"{int(self)} used on {stream.name}")


@pytest.fixture
def copies():
    told = Copied.told = []
    Copied.at = ["compute"]
    side, compute = Stream("side", told), Stream("compute", told)

    @contextmanager
    def use(stream):
        Copied.at.append(stream.name)
        yield
        Copied.at.pop()

    return InputCopies(CPU, Streams(side, lambda: compute, use)), told


def test_the_next_sample_is_on_its_way_while_one_is_used(copies):
    made, told = copies
    samples = [torch.tensor(number).as_subclass(Copied) for number in range(3)]
    made.begin([samples[0], None, samples[1], samples[2]])
    assert told == ["copy of 0 on side", "side recorded"]
    told.clear()
    assert int(made.take(samples[0])) == 0
    used = ["compute waits for 1", "0 used on compute", "copy of 1 on side", "side recorded"]
    assert told == used
    made.take(samples[1])
    made.take(samples[2])
    told.clear()
    assert int(made.take(samples[0])) == 0  # again: computed again for its backward pass
    assert told[:3] == ["copy of 0 on side", "side recorded", "compute waits for 4"]
    other = torch.tensor(9).as_subclass(Copied)
    told.clear()
    assert int(made.take(other)) == 9
    assert told == ["copy of 9 on compute"]


def test_on_the_cpu_samples_are_not_copied():
    sample = torch.randn(3)
    made = InputCopies(CPU)
    made.begin([sample])
    assert made.take(sample) is sample
