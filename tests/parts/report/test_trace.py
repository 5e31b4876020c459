"""The recorder of one rank."""

from itertools import count

import pytest

from app.report import trace as module
from app.report.trace import NOTHING, Event, Recorder


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Each look at the clock takes a second."""
    monkeypatch.setattr(module, "perf_counter", map(float, count()).__next__)


def recording():
    recorder = Recorder()
    recorder.start()
    return recorder


def test_events_in_the_order_of_their_ends():
    recorder = recording()
    recorder.begin_step(7)
    with recorder.event("receive", 1, 3), recorder.event("weights", 1, 2):
        pass
    recorder.begin_step(8)
    with recorder.event("read"):
        pass
    assert recorder.events == [
        Event("weights", 1.0, 2.0, 1, 2, 7),
        Event("receive", 0.0, 3.0, 1, 3, 7),
        Event("read", 4.0, 5.0, -1, -1, 8),
    ]


def test_only_between_start_and_stop():
    recorder = Recorder()
    seen = [recorder.recording]
    with recorder.event("forward", 0, 0):
        recorder.start()
    with recorder.event("forward", 0, 1):
        seen.append(recorder.recording)
    recorder.stop()
    with recorder.event("forward", 0, 2):
        seen.append(recorder.recording)
    assert [event.microbatch for event in recorder.events] == [1]
    assert seen == [False, True, False]


def test_an_event_ends_with_an_exception():
    recorder = recording()
    with pytest.raises(KeyError), recorder.event("read"):
        raise KeyError
    assert recorder.events == [Event("read", 0.0, 1.0, -1, -1, -1)]


def test_nothing_records_nothing():
    NOTHING.start()
    NOTHING.begin_step(1)
    with NOTHING.event("forward", 0, 0):
        pass
    assert not NOTHING.recording
    assert NOTHING.events == []
