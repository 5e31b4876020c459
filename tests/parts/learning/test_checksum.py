import torch

from app.learning.training import checksum


def test_one_flipped_bit_of_any_weight_changes_the_checksum() -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.empty(0)}
    same = {name: tensor.clone() for name, tensor in weights.items()}
    assert checksum(weights) == checksum(same)
    same["a"].view(torch.int32)[1, 2] ^= 1
    assert checksum(weights) != checksum(same)


def test_layout_in_memory_does_not_matter() -> None:
    images = torch.rand(2, 3, 4, 5)
    assert checksum({"w": images}) == checksum({"w": images.contiguous(memory_format=torch.channels_last)})
