"""The memory of messages on the CPU; messages themselves are tested over ranks."""

import gc

import numpy as np
import pytest
import torch

from app.parallel.links import _buffer, _Memory
from app.parallel.memory import ALIGNMENT, aligned

CPU = torch.device("cpu")


@pytest.fixture
def memory():
    return _Memory(CPU)


def take(memory, *shape, dtype=torch.float32):
    return memory.take(shape, dtype, on_device=True)


def test_memory_is_used_again_when_nothing_looks_at_it(memory):
    first = take(memory, 3, 4)
    place = first.data_ptr()
    del first
    assert take(memory, 3, 4).data_ptr() == place


def test_two_tensors_at_the_same_time_are_apart(memory):
    tensors = [take(memory, 3, 4) for _ in range(5)]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    assert [tensor.unique().tolist() for tensor in tensors] == [[0], [1], [2], [3], [4]]


def holders():
    layer = torch.nn.Linear(4, 2)

    def graph(tensor):
        return layer(tensor)  # saved for the backward pass

    return {
        "view": lambda tensor: tensor[1:2].view(-1),
        "detached": lambda tensor: tensor.detach(),
        "array": lambda tensor: tensor.numpy(),
        "bytes for a message": _buffer,
        "leaf": lambda tensor: tensor.requires_grad_(),
        "graph": graph,
        "closure": lambda tensor: lambda: tensor,
    }


@pytest.mark.parametrize("name", holders())
def test_memory_that_something_looks_at_is_left_alone(memory, name):
    tensor = take(memory, 3, 4)
    place = tensor.data_ptr()
    held = holders()[name](tensor)
    del tensor
    other = take(memory, 3, 4)
    assert other.data_ptr() != place
    del held, other
    gc.collect()
    assert place in {one.data_ptr() for one in [take(memory, 3, 4) for _ in range(2)]}


def test_memory_of_one_size_serves_all_shapes_and_types(memory):
    first = take(memory, 4, 3)
    place = first.data_ptr()
    del first
    for shape, dtype in [((12,), torch.float32), ((2, 6), torch.int32), ((3, 2), torch.int64), ((24,), torch.bfloat16)]:
        tensor = take(memory, *shape, dtype=dtype)
        assert (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype) == (place, shape, dtype)
        del tensor


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool,
              torch.complex64]
)  # fmt: skip
@pytest.mark.parametrize("shape", [(5, 3), (1,), (7, 1, 3), (0, 4), (4, 0)])
def test_any_shape_and_type(memory, shape, dtype):
    tensor = take(memory, *shape, dtype=dtype)
    assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
    assert tensor.is_contiguous()
    assert len(_buffer(tensor)) == tensor.nbytes
    tensor.zero_()
    assert not tensor.any()


def test_memory_begins_at_a_line_of_the_cache(memory):
    kept = [take(memory, size) for size in (1, 3, 17, 1000, 100001)]
    assert {tensor.data_ptr() % ALIGNMENT for tensor in kept} == {0}
    assert [aligned(size, np.uint8).nbytes for size in (0, 1, 63, 64, 65)] == [0, 1, 63, 64, 65]


def test_what_is_written_to_the_bytes_is_in_the_tensor(memory):
    tensor = take(memory, 2, 2, dtype=torch.int32)
    _buffer(tensor)[:] = 1
    assert tensor.tolist() == [[0x01010101] * 2] * 2


def test_memory_under_inference_is_used_again_in_training(memory):
    with torch.inference_mode():
        place = take(memory, 3, 4).data_ptr()
    tensor = take(memory, 3, 4).zero_().requires_grad_()
    assert tensor.data_ptr() == place
    (tensor * 2).sum().backward()
    assert tensor.grad.unique().tolist() == [2]
