"""How long a batch is expected to take in a pipeline, and how much of it the stages wait."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from app.plan.pipelines.schedules import make_schedule
from app.plan.pipelines.simulation import ChunkTimes, simulate

FEWEST_PLAYED = 16  # microbatches; of more than there are chunks, too, not all are played


class Expected(NamedTuple):
    """Seconds of forward and backward of a batch, and the share of the stages' time without work."""

    seconds: float
    bubble: float


def expected(
    times: Sequence[ChunkTimes], schedule: str, stages: int, microbatches: int, transfer: float = 0.0
) -> Expected:
    """What a replica's microbatches of a batch take; `times` by chunk, `transfer` seconds of a message.

    A long batch is not played to its end: once the pipeline is full each further microbatch takes the same time.
    Collective over: none.
    """

    enough, most = (max(FEWEST_PLAYED, len(times)) + more for more in (0, stages))
    seconds = _played(tuple(times), schedule, stages, min(microbatches, most), transfer)
    if microbatches > most:
        pace = (seconds - _played(tuple(times), schedule, stages, enough, transfer)) / stages
        seconds += (microbatches - most) * pace
    work = microbatches * sum(sum(chunk) for chunk in times)
    return Expected(seconds, max(0.0, 1 - work / (stages * seconds)))


@lru_cache(maxsize=64)
def _played(times: tuple[ChunkTimes, ...], schedule: str, stages: int, microbatches: int, transfer: float) -> float:
    actions = make_schedule(schedule, stages=stages, microbatches=microbatches, chunks=len(times) // stages)
    return simulate(actions, times, transfer).seconds
