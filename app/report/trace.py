"""What one rank does and when: named events of its own clock, recorded for the timeline of a phase."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class Kind(NamedTuple):
    """How an event is shown: its category, its colour in pictures, and the nearest colour name of chrome://tracing."""

    category: str
    colour: str
    cname: str


COMPUTE = "compute"
KINDS = {  # colours that also the colour-blind tell apart (Okabe and Ito, 2008)
    "forward": Kind(COMPUTE, "#0072B2", "rail_response"),
    "backward": Kind(COMPUTE, "#E69F00", "rail_idle"),
    "weights": Kind(COMPUTE, "#009E73", "rail_load"),
    "send": Kind("message", "#CC79A7", "thread_state_uninterruptible"),
    "receive": Kind("message", "#D9D9D9", "grey"),
    "all-reduce": Kind("sum", "#D55E00", "rail_animation"),
    "read": Kind("data", "#56B4E9", "thread_state_runnable"),
    "optimizer": Kind("update", "#8C6D46", "thread_state_unknown"),
    "agree": Kind("sum", "#F0E442", "yellow"),
}


class Event(NamedTuple):
    """`name` is one of KINDS; begin and end in seconds; chunk, microbatch, step: -1 where there is none."""

    name: str
    begin: float
    end: float
    chunk: int
    microbatch: int
    step: int


class _Span:
    """The `with` block of one event."""

    __slots__ = ("begin", "chunk", "microbatch", "name", "recorder")

    def __init__(self, recorder: Recorder, name: str, chunk: int, microbatch: int) -> None:
        self.recorder, self.name, self.chunk, self.microbatch = recorder, name, chunk, microbatch

    def __enter__(self) -> None:
        self.begin = perf_counter()

    def __exit__(self, *_: object) -> None:
        end = perf_counter()
        recorder = self.recorder
        recorder._rows.append((self.name, self.begin, end, self.chunk, self.microbatch, recorder._step))


class _Unseen:
    """The `with` block of an event that nobody records."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_UNSEEN = _Unseen()


class Recorder:
    """The events of this rank between `start()` and `stop()`, in the order of their ends.

    `with recorder.event("forward", chunk, microbatch): ...` costs about 1 us while it records. Events of one thread may
    stand inside each other. Collective over: none.
    """

    __slots__ = ("_recording", "_rows", "_step")

    def __init__(self) -> None:
        self._rows: list[tuple[str, float, float, int, int, int]] = []
        self._recording = False
        self._step = -1

    @property
    def recording(self) -> bool:
        return self._recording

    def start(self) -> None:
        self._recording = True

    def stop(self) -> None:
        self._recording = False

    def begin_step(self, step: int) -> None:
        """Events that end from now on belong to the step of this number."""
        self._step = step

    def event(self, name: str, chunk: int = -1, microbatch: int = -1) -> _Span | _Unseen:
        return _Span(self, name, chunk, microbatch) if self._recording else _UNSEEN

    @property
    def events(self) -> list[Event]:
        """What has been recorded, times in seconds of `time.perf_counter` on this rank."""
        return [Event(*row) for row in self._rows]


class _Nothing(Recorder):
    """A recorder that never records."""

    __slots__ = ()

    def start(self) -> None:
        pass

    def event(self, name: str, chunk: int = -1, microbatch: int = -1) -> _Unseen:
        return _UNSEEN


NOTHING = _Nothing()
