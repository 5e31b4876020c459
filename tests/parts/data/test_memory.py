"""Memory that is lent and given back."""

import numpy as np

from app.data.memory import Carver, Memory, carved_bytes


def test_lent_once_and_kept() -> None:
    memory = Memory()
    first = memory.lend(1000)
    second = memory.lend(500)
    assert not np.shares_memory(first, second)
    memory.take_back(first)
    memory.take_back(second)
    assert memory.lend(800) is first
    assert len(memory.lend(800)) >= 800


def test_cut_arrays_do_not_overlap() -> None:
    shapes = [((3, 5), np.dtype("f4")), ((7,), np.dtype("i8")), ((2, 2, 2), np.dtype("u1"))]
    carver = Carver(np.zeros(sum(carved_bytes(*each) for each in shapes), np.uint8))
    arrays = [carver.cut(*each) for each in shapes]
    for number, array in enumerate(arrays):
        array[...] = number + 1
    assert [(a.shape, a.dtype, a.min(), a.max()) for a in arrays] == [(*s, n + 1, n + 1) for n, s in enumerate(shapes)]
