"""Learning rates at known steps, and what every schedule must keep."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputError
from app.learning.rates import SHAPES, Schedule, rate


def _rates(total, **keys):
    return [rate(Schedule(**keys), step, total) for step in range(total)]


def test_constant_is_constant():
    assert _rates(5, rate=0.3) == [0.3] * 5


def test_warm_up_is_linear_and_reaches_the_full_rate():
    assert _rates(6, rate=0.4, warmup=4) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_step_multiplies_after_each_milestone():
    found = _rates(8, kind="step", rate=1.0, milestones=(3, 6), factor=0.1, min_rate=0.05)
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.05, 0.05])


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.8)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for step in range(20):
        assert rate(Schedule("cosine", 0.8, 0.1), step, 20) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_linear_and_polynomial_fall_to_the_floor():
    assert _rates(4, kind="linear", rate=1.0, min_rate=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4])
    assert _rates(4, kind="polynomial", rate=1.0, power=2) == pytest.approx([1.0, 0.5625, 0.25, 0.0625])
    assert rate(Schedule("linear", 1.0, 0.2), 4, 4) == pytest.approx(0.2)


def test_decay_runs_over_what_warm_up_leaves():
    assert _rates(6, kind="linear", rate=1.0, warmup=2) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_one_cycle_rises_over_its_warm_up_and_falls():
    found = _rates(100, kind="one_cycle", rate=1.0, start_divisor=10.0)
    assert found[0] == pytest.approx(0.1)
    assert found[15] == pytest.approx(0.55)
    assert max(found) == found[30] == pytest.approx(1.0)
    assert found[65] == pytest.approx(0.5)
    assert sorted(found[:31]) == found[:31]
    assert sorted(found[30:], reverse=True) == found[30:]
    assert _rates(100, kind="one_cycle", rate=1.0, warmup=50)[50] == pytest.approx(1.0)


@given(
    kind=st.sampled_from(sorted(SHAPES)),
    warmup=st.integers(0, 30),
    floor=st.floats(0, 1e-3),
    total=st.integers(0, 40),
    step=st.integers(0, 60),
    milestones=st.lists(st.integers(1, 50), max_size=3),
)
def test_rates_stay_between_floor_and_peak(kind, warmup, floor, total, step, milestones):
    schedule = Schedule(kind, 0.5, floor, warmup, tuple(milestones))
    assert floor <= rate(schedule, step, total) <= 0.5 + 1e-12
    if total and step < min(warmup, total) and kind != "one_cycle":
        assert rate(schedule, step, total) > 0


@given(kind=st.sampled_from(sorted(SHAPES)), total=st.integers(1, 40), warmup=st.integers(0, 10))
def test_steps_after_the_end_keep_the_last_rate(kind, total, warmup):
    schedule = Schedule(kind, 0.5, 1e-4, warmup)
    last = max(total, warmup)
    assert rate(schedule, last, total) == rate(schedule, last + 100, total)


def test_unknown_schedules_are_refused():
    with pytest.raises(InputError, match="'exponential' is not known; use one of constant, step"):
        rate(Schedule("exponential"), 0, 1)
