"""Advice from the times of layers."""

import re

import pytest

from app.plan.costs import LayerCost
from app.plan.microbatches import microbatch_sizes
from app.plan.pipelines.advice import advice, one_rank_seconds, predict
from app.plan.pipelines.times import LayerTime, chunk_times, estimated, seconds, transfer_s

PER_SAMPLE = LayerTime((0.0, 1e-3), (0.0, 1e-3), (0.0, 1e-3))  # microbatches of any size cost the same
PER_MICROBATCH = LayerTime((1e-3, 1e-4), (1e-3, 1e-4), (1e-3, 1e-4))  # each reads large weights
HALVES = (range(2), range(2, 4))


def advised(layers, size: int, **options) -> list[str]:
    return advice(layers, HALVES, "1f1b", 2, batch_size=64, microbatch_size=size, **options)


def step(layers, size: int) -> float:
    return predict(layers, HALVES, "1f1b", 2, microbatch_sizes(64, size)).seconds


@pytest.mark.parametrize("count", [1, 2, 8, 32])
def test_a_step_of_two_even_stages(count):
    """Work of one stage, and at least the forward and the backward of one microbatch that the other one waits."""
    sizes = [2] * count
    work = count * 2 * 2 * 3e-3  # two layers of three passes, two samples
    found = predict([PER_SAMPLE] * 4, HALVES, "1f1b", 2, sizes).seconds
    assert work + 2 * 2 * 1e-3 <= found <= work + 2 * 2 * 3e-3 + 1e-9
    assert predict([PER_SAMPLE] * 4, HALVES, "1f1b", 2, sizes, transfer=1e-3).seconds > found
    assert predict([PER_SAMPLE] * 4, HALVES, "1f1b", 2, sizes, recompute=True).seconds > found


def test_uneven_microbatches_do_the_same_work():
    even, uneven = (
        predict([PER_SAMPLE] * 4, HALVES, "1f1b", 2, sizes).seconds for sizes in ([10] * 8, [12] * 6 + [4] * 2)
    )
    assert even == pytest.approx(uneven)


@pytest.mark.parametrize(
    ("layer", "size"), [(PER_SAMPLE, 32), (PER_SAMPLE, 64), (PER_MICROBATCH, 1), (PER_MICROBATCH, 64)]
)
def test_the_size_advised_is_faster_and_the_best(layer, size):
    layers = [layer] * 4
    [line] = [line for line in advised(layers, size) if line.startswith("microbatch_size")]
    best, gain = map(int, re.match(r"microbatch_size = (\d+) would take (\d+)% less", line).groups())
    assert step(layers, best) == pytest.approx((1 - gain / 100) * step(layers, size), abs=0.006 * step(layers, size))
    assert all(step(layers, best) <= step(layers, other) for other in range(1, 65) if 64 % other == 0)


def test_no_other_size_is_advised_where_it_gains_little():
    assert not [line for line in advised([PER_SAMPLE] * 4, 1) if line.startswith("microbatch_size")]


def test_says_when_the_pipeline_does_not_pay():
    """Large weights read for every microbatch, against once for the whole batch on one rank."""
    layers = [LayerTime((1.0, 1e-3), (1.0, 1e-3), (0.0, 1e-3))] * 4
    assert one_rank_seconds(layers, 64) < min(step(layers, size) for size in (1, 8, 32))
    [line] = [line for line in advised(layers, 8) if "does not pay" in line]
    assert "stages = 1 and microbatch_size = 64; it is for networks that one rank cannot hold" in line
    assert not [line for line in advised([PER_SAMPLE] * 4, 8) if "does not pay" in line]


def test_says_when_only_the_microbatches_are_wrong():
    """One microbatch after the other, as many passes over the weights: slower than one rank, until there are fewer."""
    [line] = [line for line in advised([PER_MICROBATCH] * 4, 1) if "does not pay" in line]
    best = int(re.search(r"with microbatch_size = (\d+) it would take \d+% less", line)[1])
    assert step([PER_MICROBATCH] * 4, best) < one_rank_seconds([PER_MICROBATCH] * 4, 64)


def test_replicas_share_the_batch():
    one, two = (advised([PER_SAMPLE] * 4, 8, replicas=replicas)[0] for replicas in (1, 2))
    assert "(8 microbatches of 8" in one
    assert "(4 microbatches of 8" in two


def test_estimated_times_grow_with_the_work():
    small = LayerCost("a", 100, (10,), 1000, 400)
    assert seconds(estimated(small), 10) < seconds(estimated(small._replace(operations=10**6)), 10)
    assert seconds(estimated(small), 10) < seconds(estimated(small._replace(activation_bytes=10**6)), 10)
    assert seconds(estimated(small), 10) < seconds(estimated(small._replace(parameters=10**7)), 10)
    assert seconds(estimated(small), 10, training=False) < seconds(estimated(small), 10)


def test_chunks_have_the_times_of_their_layers():
    layers = [LayerTime((1.0, 0.1), (2.0, 0.2), (3.0, 0.3)), LayerTime((10.0, 1.0), (20.0, 2.0), (30.0, 3.0))]
    assert chunk_times(layers, [range(2)], 10) == [pytest.approx((22.0, 44.0, 66.0))]
    assert chunk_times(layers, [range(1), range(1, 2)], 10, recompute=True)[0] == pytest.approx((2.0, 6.0, 6.0))


def test_a_message_takes_as_long_as_the_largest_boundary_is_large():
    layers = [LayerCost(str(size), 1, (size,), 1, 1) for size in (10**6, 10**9, 10)]
    cut = (range(1), range(1, 3))
    assert transfer_s(layers, cut, 8) == pytest.approx(4 * 8 * 10**6 / 5e9, rel=0.1)
