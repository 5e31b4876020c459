"""The world, groups and gradient sums, at every number of ranks."""

import hashlib
import importlib.util
import time

import numpy as np
import pytest
import torch

from app.errors import DataError, MachineError, NumbersError
from app.parallel import world
from app.parallel.sums import gradients
from app.parallel.sums.horovod_sum import HorovodSum
from app.parallel.sums.mpi_sum import MpiSum

pytestmark = pytest.mark.mpi

needs_horovod = pytest.mark.skipif(importlib.util.find_spec("horovod") is None, reason="Horovod is not installed")


def opened(kind, group):
    if kind == "horovod":
        return HorovodSum(group, "test")
    return MpiSum(group, "test", shared=kind == "shared memory")


@pytest.fixture(params=["shared memory", "all-reduce", pytest.param("horovod", marks=needs_horovod)])
def kind(request):
    return request.param


@pytest.fixture
def engine(kind, group):
    made = opened(kind, group)
    yield made
    made.close()


def assorted(rank):
    """Tensors of every type, layout and size; others on each rank, and the same again in the next call."""
    make = torch.Generator().manual_seed(rank)

    def random(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=make, dtype=dtype)

    return [
        random(3, 5),
        random(),
        random(700, 800, dtype=torch.float64),
        random(64, 64, 3, 3).to(memory_format=torch.channels_last),
        random(512, 1024),
        random(512, 700).bfloat16(),
        random(7).bfloat16(),
        random(300, 400)[:, ::2],
        random(0, 3),
        random(1000, 501),
        random(5, dtype=torch.float64),
        random(262145),  # one more than fits into a segment of two ranks
    ]


def exact(size):
    """The sum in rank order, in the type that it is formed in."""
    total = [tensor.float() if tensor.dtype == torch.bfloat16 else tensor.clone() for tensor in assorted(0)]
    for rank in range(1, size):
        for one, other in zip(total, assorted(rank), strict=True):
            one += other
    return [one.to(tensor.dtype) for one, tensor in zip(total, assorted(0), strict=True)]


def bits(tensors):
    whole = b"".join(tensor.double().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(whole).hexdigest()


def test_everybody_knows_who_is_where(here):
    assert len(here.hosts) == here.size
    assert here.host == here.hosts[here.rank]
    assert 0 <= here.local_rank < here.local_size <= here.size
    assert 1 <= here.sharing <= here.local_size
    assert here.threads >= 1
    assert here.thread_level == "multiple"
    assert here.allgather(here.rank) == list(range(here.size))
    assert here.bcast("word" if here.rank == 0 else None) == "word"


def test_threads_follow_the_cores_that_ranks_share(here, monkeypatch):
    monkeypatch.setattr(world, "_cores", lambda: frozenset(range(8)))
    assert [world.threads(sharing) for sharing in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert world.threads(2, {"OMP_NUM_THREADS": "3"}) == 3


def test_an_error_of_one_rank_is_raised_on_all_and_names_it(here):
    here.agree(None)
    last = here.size - 1
    with pytest.raises(DataError) as caught:
        here.agree(DataError("first", "second") if here.rank == last else None)
    assert len(caught.value.problems) == 2
    assert "first" in caught.value.problems[0]
    assert here.size == 1 or f"rank {last}" in caught.value.problems[0]


def test_an_error_that_all_have_is_said_once_and_of_two_the_lowest_ranks(here):
    with pytest.raises(MachineError) as caught:
        here.agree(MachineError("no disk"))
    assert caught.value.problems == ("no disk",)
    with pytest.raises(DataError, match="of rank 0"):
        here.agree(DataError(f"of rank {here.rank}"))


def test_groups_split_the_world(here):
    part = here.group(here.rank % 2, -here.rank)
    ranks = part.allgather(here.rank)
    assert ranks == sorted((rank for rank in range(here.size) if rank % 2 == here.rank % 2), reverse=True)
    assert ranks[part.rank] == here.rank


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (600, 700)])
def test_numbers_of_metrics_are_summed(group, dtype, shape):
    def of(rank):
        return (np.random.default_rng(rank).random(shape) * 1000).astype(dtype) * np.ones(shape, dtype)

    array = np.array(of(group.rank))
    group.sum_(array)
    np.testing.assert_allclose(array, sum(of(rank) for rank in range(group.size)), rtol=1e-14)
    assert len(set(group.allgather(array.tobytes()))) == 1


def test_a_slice_is_summed_in_place(group):
    whole = np.ones((4, 4))
    group.sum_(whole[:, 1])
    assert whole[:, 1].tolist() == [group.size] * 4
    assert whole[:, 0].tolist() == [1] * 4


def test_the_roots_tensors_reach_all(group):
    root = group.size - 1
    tensors = assorted(group.rank)
    group.bcast_(tensors, root=root)
    for tensor, wanted in zip(tensors, assorted(root), strict=True):
        assert torch.equal(tensor, wanted)


def test_a_parameter_can_be_broadcast(group):
    parameter = torch.nn.Parameter(torch.full((3,), float(group.rank)))
    group.bcast_([parameter])
    assert parameter.tolist() == [0.0] * 3


def test_the_sum_is_right_the_same_on_all_ranks_and_repeats(engine, kind, group):
    before = assorted(group.rank)
    found = set()
    for _ in range(4):
        tensors = assorted(group.rank)
        engine.sum_(tensors)
        found.add(bits(tensors))
    assert len(found) == 1
    assert len(set(group.allgather(found.pop()))) == 1
    for tensor, wanted, old in zip(tensors, exact(group.size), before, strict=True):
        assert tensor.stride() == old.stride()
        if kind == "shared memory":
            assert torch.equal(tensor, wanted)  # added in rank order
        else:
            torch.testing.assert_close(tensor, wanted, rtol=1e-2 if tensor.dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_a_second_engine_gives_the_same_bits(engine, kind, group):
    first, second = assorted(group.rank), assorted(group.rank)
    engine.sum_(first)
    other = opened(kind, group)
    other.sum_(second)
    other.close()
    assert bits(first) == bits(second)


def test_chunks_smaller_than_the_number_of_ranks(engine, group):
    for size in (16385, 262144, 262145, 393217, 524287, 524289, 1048579):
        one = opened(engine.name if engine.name == "horovod" else "shared memory", group)
        tensors = [torch.full((size,), group.rank + 1.0, dtype=dtype) for dtype in (torch.float32, torch.float64)]
        one.sum_(tensors)
        for tensor in tensors:
            assert torch.equal(tensor, torch.full_like(tensor, group.size * (group.size + 1) / 2))
        one.close()


def test_gradients_of_a_network(engine, group):
    network = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.ReLU(), torch.nn.Linear(200, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    for _ in range(3):
        network.zero_grad(set_to_none=True)
        loss = network(torch.full((4, 300), float(group.rank + 1))).sum()
        loss.backward()
        engine.sum_([*(parameter.grad for parameter in network.parameters()), loss.detach()])
    assert network[2].bias.grad.tolist() == [4.0 * group.size] * 3


@pytest.mark.mpi(min_size=2)
def test_a_network_that_differs_between_ranks_is_refused_everywhere(engine, group):
    with pytest.raises(NumbersError, match="tensor 1 is float32 of shape"):
        engine.sum_([torch.ones(3), torch.ones(4 + group.rank)])


def test_a_list_that_changes_is_refused(engine):
    engine.sum_([torch.ones(3), torch.ones(4)])
    with pytest.raises(NumbersError, match="changed between two steps"):
        engine.sum_([torch.ones(3)])


@pytest.mark.mpi(min_size=2)
def test_memory_order_may_differ_between_ranks(engine, group):
    plain = torch.arange(64 * 64 * 9, dtype=torch.float32).view(64, 64, 3, 3)
    tensor = plain.clone()
    if group.rank == 0:
        tensor = tensor.to(memory_format=torch.channels_last)
    engine.sum_([tensor])
    assert torch.equal(tensor, plain * group.size)


def test_two_pipelines_sum_apart(here):
    part = here.group(here.rank % 2, here.rank)
    engine = gradients.choose(part, wanted="auto", device_type="cpu", hosts=1)
    tensor = torch.full((3,), float(here.rank))
    engine.sum_([tensor])
    engine.close()
    assert tensor.tolist() == [float(sum(part.allgather(here.rank)))] * 3


def test_auto_takes_shared_memory_on_one_host(group):
    engine = gradients.choose(group, wanted="auto", device_type="cpu", hosts=1)
    assert engine.name == ("none" if group.size == 1 else "mpi")
    assert group.size == 1 or "shared memory" in engine.reason
    engine.close()


def test_who_waits_asleep_leaves_after_the_last_and_uses_no_core(group):
    if group.rank == group.size - 1:
        time.sleep(0.3)
    begun, used = time.perf_counter(), time.thread_time()  # Horovod has threads of its own
    group.barrier_asleep()
    waited, computed = time.perf_counter() - begun, time.thread_time() - used
    everyone = group.allgather((waited, computed))
    for waited, computed in everyone[:-1]:
        assert waited > 0.2
        assert computed < 0.5 * waited
