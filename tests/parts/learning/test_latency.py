"""Times of forward passes, and the energy that the machine counts meanwhile."""

import math

import pytest
import torch
from torch import nn

from app.learning.energy import Counter, Meter, rapl
from app.learning.latency import time_forward
from app.networks.shapes import Boundary

CPU = torch.device("cpu")


def chunk():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))


def test_a_sane_time_and_everything_as_it_was():
    network, last = chunk(), nn.Sequential(nn.Linear(3, 2))
    last.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    chunks = [(network, Boundary((8,), torch.float32)), (last, Boundary((3,), torch.float32))]
    found = time_forward(chunks, 4, CPU, bf16=False, seconds=0.01)
    assert 0 < found.seconds < 1
    assert not found.problem
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(part.training for part in network.modules())
    assert not last.training


def test_more_work_takes_longer():
    small, large = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(512, 4096), nn.Linear(4096, 512))
    one = time_forward([(small, Boundary((8,), torch.float32))], 1, CPU, bf16=False, seconds=0.02)
    other = time_forward([(large, Boundary((512,), torch.float32))], 64, CPU, bf16=False, seconds=0.02)
    assert other.seconds > 3 * one.seconds


@pytest.mark.parametrize("bf16", [False, True])
def test_tokens_and_bf16(bf16):
    network = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    found = time_forward([(network, Boundary((3,), torch.int64))], 2, CPU, bf16=bf16, seconds=0.001)
    assert found.seconds > 0


class Squeezes(nn.Module):
    """A mistake that shows with one sample alone."""

    def forward(self, inputs):
        return inputs.squeeze() @ torch.ones(3, 2) if len(inputs) > 1 else inputs.squeeze().view(5)


def test_a_network_that_cannot_take_one_sample_has_no_time_but_a_reason():
    network = nn.Sequential(Squeezes())
    boundary = Boundary((3,), torch.float32)
    assert time_forward([(network, boundary)], 4, CPU, bf16=False, seconds=0.001).seconds > 0
    found = time_forward([(network, boundary)], 1, CPU, bf16=False, seconds=0.001)
    assert math.isnan(found.seconds)
    assert "shape" in found.problem
    assert network.training


def zone(folder, name, word, energy, most=1000):
    (folder / name).mkdir()
    for file, text in (("name", word), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (folder / name / file).write_text(f"{text}\n")


def test_energy_of_packages_and_memory(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 100)
    zone(tmp_path, "intel-rapl:0:0", "core", 7)  # part of the package
    zone(tmp_path, "intel-rapl:0:1", "dram", 50)
    zone(tmp_path, "intel-rapl:1", "package-1", 900)
    zone(tmp_path, "intel-rapl:2", "psys", 5)  # the packages and more
    meter = Meter(rapl(tmp_path))
    meter.start()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("350\n")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("99\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("100\n")  # over 1000, and from 0 again
    assert meter.joules() == pytest.approx((250 + 200) * 1e-6)


def test_no_energy_where_the_machine_does_not_tell(tmp_path):
    def joules(counters):
        meter = Meter(counters)
        meter.start()
        return meter.joules()

    assert math.isnan(joules(rapl(tmp_path / "nowhere")))
    zone(tmp_path, "intel-rapl:0", "package-0", 100)
    assert math.isnan(joules(rapl(tmp_path))), "the counter has not moved"
    zone(tmp_path, "intel-rapl:1", "package-1", "")  # as where only root may read it
    assert rapl(tmp_path) == []
    values = iter([5, None])
    assert math.isnan(joules([Counter(lambda: next(values), 1.0, 0)])), "it went away meanwhile"
