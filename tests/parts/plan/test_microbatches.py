"""How batches fall into microbatches, against counting them one by one."""

from itertools import product

import pytest

from app.plan.microbatches import leaves_single, microbatch_sizes, owned, sizes_without_single, steps_per_epoch


def sizes_of_epoch(samples: int, batch: int, microbatch: int) -> list[int]:
    """Samples of every microbatch of an epoch."""
    steps = steps_per_epoch(samples, batch)
    batches = [min(batch, samples - step * batch) for step in range(steps)]
    return [size for one in batches for size in microbatch_sizes(one, microbatch)]


@pytest.mark.parametrize("batch", [1, 2, 7, 12])
def test_a_microbatch_of_one_sample_is_found(batch):
    for samples, microbatch in product(range(1, 40), range(1, batch + 1)):
        expected = 1 in sizes_of_epoch(samples, batch, microbatch)
        assert leaves_single(samples, batch, microbatch) == expected, (samples, batch, microbatch)


@pytest.mark.parametrize(("batch", "microbatch", "replicas"), [(40, 31, 1), (40, 31, 2), (8, 1, 4), (9, 4, 2)])
def test_the_sizes_advised_have_none_and_work_for_every_replica(batch, microbatch, replicas):
    for samples in range(20, 120):
        found = sizes_without_single(samples, batch, microbatch, replicas)
        assert found is not None
        assert 1 not in sizes_of_epoch(samples, *found)
        assert all(len(owned(-(-found[0] // found[1]), replica, replicas)) for replica in range(replicas))


def test_the_nearest_microbatch_is_advised_first():
    assert sizes_without_single(192, 40, 31, 1) == (40, 30)
    assert sizes_without_single(41, 40, 10, 1) == (39, 10), "one sample is left over: only another batch helps"
