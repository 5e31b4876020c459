"""The digits on the accelerator: the numbers of the CPU, in every way of executing them."""

import math

import h5py
import numpy as np
import pytest
import torch

from app.learning.devices.precision import has_tf32
from app.learning.energy import meter
from tests.runs import outcome

PHASE = "teacher"
CLOSE = 1e-3  # of losses, as float32 is rounded in another order


def cuda():
    """The first GPU of NVIDIA or AMD; skips on other accelerators."""
    if not torch.cuda.is_available():
        pytest.skip("this accelerator is not programmed through CUDA")
    return torch.device("cuda", 0)


def compiles():
    """Skips where torch has no compiler for GPUs."""
    from torch.utils._triton import has_triton

    if not has_triton():
        pytest.skip("torch.compile needs Triton on a GPU, and there is none")


def losses(run):
    return outcome.losses(run[0], PHASE)


def quality(run):
    return outcome.metrics(run[0], "teacher-test")["accuracy"]


def test_the_accelerator_is_taken_by_itself(digits, kind):
    line = next(one for one in digits()[1].splitlines() if "rank 0 on " in one)
    assert f": {kind}" in line
    assert "(auto" in line


def test_the_losses_are_those_of_the_cpu(digits, kind):
    np.testing.assert_allclose(losses(digits(f"run.device={kind}")), losses(digits("run.device=cpu")), atol=CLOSE)


def test_a_run_repeats_bit_for_bit(digits, kind):
    one, other = digits(f"run.device={kind}"), digits(f"run.device={kind}", "run.log_seconds=9")
    np.testing.assert_array_equal(losses(one), losses(other))


def test_the_network_is_as_good_as_that_of_the_cpu(digits, kind):
    assert quality(digits(f"run.device={kind}")) == pytest.approx(quality(digits("run.device=cpu")), abs=0.02)


def test_bf16(digits, kind):
    run = digits(f"run.device={kind}", "run.precision=bf16")
    assert ", bf16," in run[1]
    np.testing.assert_allclose(losses(run)[-1], losses(digits("run.device=cpu"))[-1], rtol=0.1)


def test_tf32(digits):
    if not has_tf32(cuda()):
        pytest.skip("this GPU has no TF32")
    run = digits("run.device=cuda", "run.precision=tf32")
    assert ", tf32," in run[1]
    np.testing.assert_allclose(losses(run)[-1], losses(digits("run.device=cpu"))[-1], rtol=0.05)
    assert not np.array_equal(losses(run), losses(digits("run.device=cuda")))  # rounded otherwise


def test_channels_last(digits, kind):
    run = digits(f"run.device={kind}", "run.memory_format=channels_last")
    np.testing.assert_allclose(losses(run), losses(digits("run.device=cpu")), atol=CLOSE)


def test_compiled(digits):
    cuda()
    compiles()
    run = digits("run.device=cuda", "run.compile=true")
    assert ", compiled," in run[1]
    np.testing.assert_allclose(losses(run), losses(digits("run.device=cpu")), atol=CLOSE)


def test_replayed_as_cuda_graphs(digits):
    cuda()
    compiles()
    run = digits("run.device=cuda", "run.compile=true", "run.cuda_graphs=true")
    np.testing.assert_allclose(losses(run), losses(digits("run.device=cpu")), atol=CLOSE)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("recompute", ["false", "true"])
def test_two_ranks(digits, kind, stages, recompute):
    """As replicas and as stages; on one device where there are no two."""
    settings = (f"run.device={kind}", f"grid.stages={stages}", f"grid.recompute={recompute}")
    run = digits(*settings, ranks=2)
    np.testing.assert_allclose(losses(run), losses(digits("run.device=cpu")), atol=CLOSE)
    shared = torch.accelerator.device_count() == 1
    assert ("2 ranks share it" in run[1]) == shared


def test_copies_on_their_own_stream_bring_what_was_sent():
    from app.learning.devices.copies import STREAMS, InputCopies

    device = torch.accelerator.current_accelerator()
    if device.type not in STREAMS:
        pytest.skip(f"{device.type} has no streams of its own for copies")
    samples = [torch.full((1 << 20,), float(number)).pin_memory() for number in range(20)]
    copies = InputCopies(device)
    copies.begin(samples)
    work = torch.randn(1024, 1024, device=device)
    for number, sample in enumerate(samples):
        moved = copies.take(sample)
        work = work @ work / work.norm()
        assert bool((moved == number).all())


def test_the_energy_of_a_sample(digits):
    """Where the board counts it, which takes NVML and an architecture since Volta."""
    device = cuda()
    energy = meter(device)
    energy.start()
    work = torch.randn(4096, 4096, device=device)
    for _ in range(200):
        work = work @ work / work.norm()
    torch.cuda.synchronize()
    if math.isnan(energy.joules()):
        pytest.skip("this GPU does not count its energy")
    with h5py.File(digits("run.device=cuda", "run.measure=2")[0] / "run.h5") as file:
        assert file["phases/teacher/appraisal/after/joules"][()] > 0
