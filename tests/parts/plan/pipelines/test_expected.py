"""Expected times of long batches against playing them to their end."""

import pytest

from app.plan.pipelines.expected import expected
from app.plan.pipelines.schedules import make_schedule
from app.plan.pipelines.simulation import ChunkTimes, simulate


@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2)])
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("uneven", [0.0, 0.3])
def test_a_batch_that_is_not_played_to_its_end(schedule, chunks, stages, uneven):
    times = [ChunkTimes(1 + uneven * (n % 3), 1.1 + uneven * (n % 2), 0.9) for n in range(stages * chunks)]
    for microbatches in (1, 7, 20, 41, 100):
        actions = make_schedule(schedule, stages=stages, microbatches=microbatches, chunks=chunks)
        whole = simulate(actions, times, 0.1)
        found = expected(times, schedule, stages, microbatches, 0.1)
        assert found.seconds == pytest.approx(whole.seconds, rel=0.03)
        assert found.bubble == pytest.approx(whole.bubble, abs=0.03)
