"""Which single weights go: exactly the share, over all layers or within each, on one stage or several."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from app.learning.pruning.connections import lowest, prunable, random_scores, two_of_four

SHAPES = {"a": (7, 5), "b": (4, 3, 3, 3), "c": (40, 11), "d": (3, 40)}


def made_scores(scale=1.0):
    generator = torch.Generator().manual_seed(2)
    return {
        name: (1 + number) ** scale * torch.rand(shape, generator=generator)
        for number, (name, shape) in enumerate(SHAPES.items())
    }


def nothing(array):
    """The sum of one stage."""


def removed(masks):
    return sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.905, 0.99])
def test_the_share_is_exact_over_all_layers(share):
    scores = made_scores(3)
    masks = lowest(scores, share, "global", nothing)
    total = sum(one.numel() for one in scores.values())
    assert removed(masks) == int(np.ceil(share * total))
    gone = torch.cat([one[~masks[name]] for name, one in scores.items()])
    stay = torch.cat([one[masks[name]] for name, one in scores.items()])
    assert gone.max() < stay.min()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.905])
def test_the_share_is_exact_within_each_layer(share):
    scores = made_scores(3)
    for name, mask in lowest(scores, share, "layer", pytest.fail).items():
        assert removed({name: mask}) == int(np.ceil(share * mask.numel()))
        assert scores[name][~mask].max() < scores[name][mask].min()


def test_equal_scores_at_the_limit_go_together():
    scores = {"a": torch.tensor([0.0, 1.0, 1.0, 1.0, 2.0])}
    assert lowest(scores, 0.3, "global", nothing)["a"].tolist() == [False, False, False, False, True]


def test_what_is_zero_goes_first():
    """A network pruned before: those gone already are among those that go."""
    scores = made_scores()
    for one in scores.values():
        one.view(-1)[::2] = 0
    for ranking in ("global", "layer"):
        for share in (0.2, 0.6):
            masks = lowest(scores, share, ranking, nothing)
            assert all(not masks[name][one == 0].any() for name, one in scores.items())
    few = lowest(scores, 0.2, "global", nothing)
    assert removed(few) == sum(int((one == 0).sum()) for one in scores.values()), "and nothing else as long as they do"


def in_threads(stages, share):
    """`lowest` of each stage, the sums over all of them formed as MPI would."""
    barrier, arrays, found = threading.Barrier(len(stages)), [None] * len(stages), [None] * len(stages)

    def stage(number):
        def sum_(array):
            arrays[number] = array.copy()
            barrier.wait(10)
            total = sum(arrays)
            barrier.wait(10)
            array[:] = total

        found[number] = lowest(stages[number], share, "global", sum_)

    threads = [threading.Thread(target=stage, args=(number,)) for number in range(len(stages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


@pytest.mark.parametrize("parts", [["a", "bcd"], ["ab", "", "cd"], ["d", "c", "b", "a"]])
def test_stages_choose_as_one_would(parts):
    scores = made_scores(2)
    expected = lowest(scores, 0.7, "global", nothing)
    found = in_threads([{name: scores[name] for name in part} for part in parts], 0.7)
    merged = {name: mask for one in found for name, mask in one.items()}
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], mask) for name, mask in expected.items())


@pytest.mark.parametrize("shape", [(5, 8), (3, 12, 3, 3), (4, 4, 5)])
def test_two_of_each_four_input_channels(shape):
    scores = {"a": torch.rand(shape, generator=torch.Generator().manual_seed(1))}
    mask = two_of_four(scores)["a"]
    assert mask.shape == shape
    fours = mask.unflatten(1, (-1, 4))
    assert (fours.sum(2) == 2).all()
    kept = scores["a"].unflatten(1, (-1, 4)).masked_fill(~fours, 9).amin(2)
    gone = scores["a"].unflatten(1, (-1, 4)).masked_fill(fours, -1).amax(2)
    assert (kept > gone).all()


def test_channels_that_four_does_not_divide_have_no_pattern():
    assert two_of_four({"a": torch.rand(4, 6), "b": torch.rand(6, 4)}).keys() == {"b"}


def network():
    shared = nn.Linear(4, 4)
    tied, twice = nn.Linear(4, 4), nn.Linear(4, 4)
    twice.weight = tied.weight
    return nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Flatten(), shared, shared, tied, twice)


def test_weights_of_linear_and_convolutional_layers_may_go():
    assert list(prunable(network(), ())) == ["0.weight", "3.weight"]
    assert list(prunable(network(), {"0.weight"})) == ["3.weight"]


def test_random_scores_are_those_of_seed_title_and_name():
    weights = {"a": torch.ones(3, 4), "b": torch.ones(3, 4)}
    weights["a"][0, 0] = 0
    found, again = random_scores(weights, 5, "round 1"), random_scores({"a": weights["a"]}, 5, "round 1")
    assert torch.equal(found["a"], again["a"])
    assert found["a"].dtype == torch.float32
    assert found["a"][0, 0] == 0
    assert ((found["b"] > 0) & (found["b"] <= 1)).all()
    assert not torch.equal(found["a"][1:], found["b"][1:])
    for other in (random_scores(weights, 6, "round 1"), random_scores(weights, 5, "round 2")):
        assert not torch.equal(found["b"], other["b"])
