"""Learning rates as pure functions of the step number."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

from app.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """How the rate changes; all lengths in optimizer steps."""

    kind: str = "constant"
    rate: float = 1e-3  # the highest
    min_rate: float = 0.0  # the rate never falls below; cosine, linear, polynomial and one_cycle end there
    warmup: int = 0  # steps of linear rise from rate / warmup; one_cycle: of the rise, 0 means 30 % of all
    milestones: tuple[int, ...] = ()  # step: after each of these the rate is multiplied by factor
    factor: float = 0.1  # step
    power: float = 2.0  # polynomial
    start_divisor: float = 25.0  # one_cycle: starts at rate / start_divisor


def rate(schedule: Schedule, step: int, total_steps: int) -> float:
    """Learning rate of the 0-based step of total_steps; later steps have the last rate.

    Warm-up rises linearly to the full rate (Goyal et al., arXiv:1706.02677, section 2.2); the schedule proper runs
    over the remaining steps, except that milestones count from the beginning. Raises InputError for an unknown kind.
    """
    if schedule.kind not in SHAPES:
        raise InputError(f"schedule = {schedule.kind!r} is not known; use one of {', '.join(SHAPES)}")
    warmup = _warmup(schedule, total_steps)
    if step < warmup:
        value = _rise(schedule, step, warmup)
    else:
        done = min((step - warmup) / (total_steps - warmup), 1.0) if warmup < total_steps else 1.0
        value = SHAPES[schedule.kind](schedule, step, done)
    return max(value, schedule.min_rate)


def _warmup(schedule: Schedule, total_steps: int) -> int:
    if schedule.kind == "one_cycle" and schedule.warmup == 0:
        return round(0.3 * total_steps)
    return schedule.warmup


def _rise(schedule: Schedule, step: int, warmup: int) -> float:
    if schedule.kind == "one_cycle":
        start = schedule.rate / schedule.start_divisor
        return _half_wave(schedule.rate, start, 1 - step / warmup)
    return schedule.rate * (step + 1) / warmup


def _half_wave(high: float, low: float, done: float) -> float:
    """From high (done = 0) to low (done = 1) along half a cosine."""
    return low + (high - low) * 0.5 * (1 + cos(pi * done))


def _constant(schedule: Schedule, step: int, done: float) -> float:
    return schedule.rate


def _step(schedule: Schedule, step: int, done: float) -> float:
    return schedule.rate * schedule.factor ** sum(step >= milestone for milestone in schedule.milestones)


def _cosine(schedule: Schedule, step: int, done: float) -> float:
    """Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts."""
    return _half_wave(schedule.rate, schedule.min_rate, done)


def _linear(schedule: Schedule, step: int, done: float) -> float:
    return schedule.min_rate + (schedule.rate - schedule.min_rate) * (1 - done)


def _polynomial(schedule: Schedule, step: int, done: float) -> float:
    return schedule.min_rate + (schedule.rate - schedule.min_rate) * (1 - done) ** schedule.power


# Smith and Topin, Super-Convergence, arXiv:1708.07120: up and down in one wave; the fall is the cosine's.
SHAPES: dict[str, Callable[[Schedule, int, float], float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "linear": _linear,
    "polynomial": _polynomial,
    "one_cycle": _cosine,
}
