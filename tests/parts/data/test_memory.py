"""Memory that is lent and given back."""

import numpy as np
import torch

from app.data.memory import Memory, Pieces


def test_lent_once_and_kept() -> None:
    memory = Memory()
    first = memory.lend(1000)
    second = memory.lend(500)
    assert not np.shares_memory(first, second)
    memory.take_back(first)
    memory.take_back(second)
    assert memory.lend(800) is first
    assert len(memory.lend(800)) >= 800


def test_pieces_are_not_taken_again_while_something_looks_at_them() -> None:
    pieces = Pieces(Memory(), 2, 640)
    first = pieces.take()
    second = pieces.take()
    assert not np.shares_memory(first, second)
    tensor = torch.from_numpy(first[:64].view(np.float32).reshape(4, 4))
    at = first.ctypes.data
    del first
    third = pieces.take()
    assert third.ctypes.data not in (at, second.ctypes.data)  # both are in use: fresh memory
    del tensor
    assert pieces.take().ctypes.data == at


def test_memory_goes_back_only_when_nothing_looks_at_it() -> None:
    memory = Memory()
    pieces = Pieces(memory, 2, 640)
    whole = pieces._lent
    kept = pieces.take()[:10]
    pieces.give_back()
    assert memory.lend(10) is not whole
    del kept
    pieces.give_back()
    assert memory.lend(10) is whole
