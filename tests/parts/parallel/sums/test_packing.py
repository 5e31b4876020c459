"""Lists of tensors become few flat ones, and come back."""

import pytest
import torch

from app.errors import NumbersError
from app.parallel.sums import packing
from app.parallel.sums.packing import SMALL_BYTES, Packing


class Alone:
    """A group of one rank."""

    def allgather(self, value):
        return [value]


class WithAnother:
    """A group of two, whose other rank has passed other tensors."""

    def __init__(self, tensors):
        heard = []

        class Listener:
            def allgather(self, value):
                heard.append(value)
                return [value]

        packing._agree(tensors, Listener())
        lines = [packing._describe(tensor.shape, tensor.dtype) for tensor in tensors]
        self._answers = iter([*heard, lines])

    def allgather(self, value):
        return [value, next(self._answers)]


def doubled(tensors, **options):
    """Pack, double what is flat, unpack; also the number of flat tensors."""
    plan = Packing(tensors, Alone(), **({"on_device": False} | options))
    flats = plan.pack(tensors)
    for flat in flats:
        assert flat.dim() == 1
        assert flat.is_contiguous()
        flat.mul_(2)
    plan.unpack_(tensors)
    return len(flats)


def assorted():
    large = SMALL_BYTES  # elements: large whatever the type
    return [
        torch.randn(3, 5),
        torch.randn(()),
        torch.randn(large),
        torch.randn(large, dtype=torch.float64),
        torch.randn(large).bfloat16(),
        torch.randn(7).bfloat16(),
        torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(300, 400)[:, ::2],
        torch.randn(400, 300).t(),
        torch.randn(0, 3),
    ]


def test_every_kind_of_tensor_comes_back_where_it_was():
    tensors = assorted()
    expected = [tensor.clone() * 2 for tensor in tensors]
    doubled(tensors)
    for tensor, wanted in zip(tensors, expected, strict=True):
        assert torch.equal(tensor, wanted)


def test_small_tensors_share_one_flat_tensor():
    assert doubled([torch.ones(3) for _ in range(100)]) == 1


def test_large_tensors_are_views_of_themselves():
    for tensor in (torch.ones(SMALL_BYTES), torch.ones(8, 64, 32, 32).to(memory_format=torch.channels_last)):
        (flat,) = Packing([tensor], Alone(), on_device=False).pack([tensor])
        assert flat.data_ptr() == tensor.data_ptr()


def test_bfloat16_is_summed_in_float32():
    tensors = [torch.ones(4).bfloat16(), torch.ones(SMALL_BYTES).bfloat16()]
    flats = Packing(tensors, Alone(), on_device=False).pack(tensors)
    assert {flat.dtype for flat in flats} == {torch.float32}


def test_other_tensors_and_another_memory_order_are_fine_in_the_next_step():
    first = [torch.randn(8, 64, 32, 32)]
    plan = Packing(first, Alone(), on_device=False)
    plan.pack(first)
    plan.unpack_(first)
    second = [torch.randn(8, 64, 32, 32).to(memory_format=torch.channels_last)]
    before = second[0].clone()
    (flat,) = plan.pack(second)
    assert torch.equal(flat.view(before.shape), before)  # in the order agreed on in the first step
    flat.mul_(2)
    plan.unpack_(second)
    assert torch.equal(second[0], before * 2)


@pytest.mark.parametrize(
    "changed", [[torch.ones(3)], [torch.ones(3), torch.ones(5)], [torch.ones(3), torch.ones(4).double()]]
)
def test_a_changed_list_is_refused(changed):
    tensors = [torch.ones(3), torch.ones(4)]
    plan = Packing(tensors, Alone(), on_device=False)
    with pytest.raises(NumbersError, match="changed between two steps"):
        plan.pack(changed)


def test_ranks_with_other_shapes_are_refused_and_the_first_difference_is_named():
    group = WithAnother([torch.ones(3), torch.ones(5)])
    with pytest.raises(NumbersError, match=r"tensor 1 is float32 of shape \(4,\) on rank 0 and .*\(5,\) on rank 1"):
        Packing([torch.ones(3), torch.ones(4)], group, on_device=False)


def test_ranks_with_another_memory_order_use_the_plain_one():
    there = torch.randn(8, 64, 32, 32).to(memory_format=torch.channels_last)
    here = torch.randn(8, 64, 32, 32)
    plan = Packing([there], WithAnother([here]), on_device=False)
    (flat,) = plan.pack([there])
    assert torch.equal(flat, there.contiguous().view(-1))
