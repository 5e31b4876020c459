"""What a schedule would take: plays it in model time by the rule of the player, and so predicts the bubble.

The rule: a stage takes the actions of its list in order. Sends take no time; a receive waits until the neighbour has
sent and the message has travelled. A stage that has to wait runs the first WEIGHTS further down its list whose
BACKWARD is done, to its end even when the message comes meanwhile, and skips it later at its place.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from app.plan.pipelines.schedules import BACKWARD, FORWARD, RECEIVES, REDUCE, SENDS, WEIGHTS, Action, Schedule, received


class ChunkTimes(NamedTuple):
    """Seconds that one full microbatch takes in a chunk: forward, towards its inputs, towards its weights."""

    forward: float
    backward: float
    weights: float


class Played(NamedTuple):
    """An action and when it ran, in seconds from the begin of the batch; of a receive, when it was waited for."""

    action: Action
    begin: float
    end: float


class Simulation(NamedTuple):
    """How a batch went.

    `played` by stage, in the order of time; `bubble` is the share of all stages' time without work; `in_flight` and
    `pending` say by chunk how many microbatches at most were between F and B, and between B and W.
    """

    played: tuple[tuple[Played, ...], ...]
    seconds: float
    bubble: float
    in_flight: tuple[int, ...]
    pending: tuple[int, ...]


def simulate(schedule: Schedule, times: Sequence[ChunkTimes], transfer: float = 0.0) -> Simulation:
    """Plays a schedule; `times` by chunk, a message is there `transfer` seconds after its send.

    Equal stages without messages' time under gpipe wait (S - 1) (F + B) seconds a batch, of the textbook's
    (S - 1) (F + B + W) (Huang et al., GPipe, 2019): nobody waits for W. The textbook's bubble (S - 1) / (S - 1 + n)
    is what comes out when all of backward is B. Collective over: none. Raises ValueError where stages wait for ever.
    """
    stages = [_Stage(actions, times) for actions in schedule]
    arrivals: dict[Action, float] = {}
    due = [(0.0, number) for number in range(len(stages))]
    while due:
        stage = stages[heappop(due)[1]]
        for receive in stage.step(arrivals):
            arrivals[receive] = stage.clock + transfer
            receiver = receive.chunk % len(stages)
            if stages[receiver].blocked and stages[receiver].now == receive:
                stages[receiver].blocked = False
                heappush(due, (stages[receiver].clock, receiver))
        if stage.now and not stage.blocked:
            heappush(due, (stage.clock, stages.index(stage)))
    stuck = [f"stage {number} at {stage.now}" for number, stage in enumerate(stages) if stage.now]
    if stuck:
        raise ValueError("the schedule waits for ever: " + ", ".join(stuck))
    return _result(tuple(tuple(stage.played) for stage in stages), len(times))


class _Stage:
    """One stage while it plays: its clock, its place in its list, and the WEIGHTS it can run while it waits."""

    def __init__(self, actions: Sequence[Action], times: Sequence[ChunkTimes]) -> None:
        self.left = deque(actions)
        self.times = times
        self.clock = 0.0
        self.blocked = False  # at a receive whose message is not yet sent, with nothing else to do
        self.ready: dict[Action, None] = {}  # WEIGHTS after their BACKWARD, in its order
        self.early: set[Action] = set()
        self.played: list[Played] = []

    @property
    def now(self) -> Action | None:
        """The action at this stage's place in its list; None at the end."""
        return self.left[0] if self.left else None

    def step(self, arrivals: Mapping[Action, float]) -> list[Action]:
        """Plays one action and what follows it at once; returns the receives of the messages it sent."""
        if self.now and self.now.kind in RECEIVES:
            self._receive(arrivals.get(self.now, inf))
        elif self.now:
            self._play(self.left.popleft())
        sent = []
        while self.now and self.now.kind in (*SENDS, REDUCE):
            action = self.left.popleft()
            self._record(action, self.clock)
            sent += [received(action)] if action.kind in SENDS else []
        return sent

    def _receive(self, arrival: float) -> None:
        if arrival > self.clock and self.ready:
            weights = next(iter(self.ready))
            self._play(weights)
            self.early.add(weights)
        elif arrival < inf:
            self._record(self.left.popleft(), max(arrival, self.clock))
        else:
            self.blocked = True

    def _play(self, action: Action) -> None:
        if action in self.early:
            return
        times = self.times[action.chunk]
        seconds = {FORWARD: times.forward, BACKWARD: times.backward, WEIGHTS: times.weights}.get(action.kind, 0.0)
        self._record(action, self.clock + seconds)
        if action.kind == BACKWARD:
            self.ready[action._replace(kind=WEIGHTS)] = None
        self.ready.pop(action, None)

    def _record(self, action: Action, end: float) -> None:
        self.played.append(Played(action, self.clock, end))
        self.clock = end


def _result(played: tuple[tuple[Played, ...], ...], chunks: int) -> Simulation:
    seconds = max((one.end for stage in played for one in stage), default=0.0)
    work = sum(
        one.end - one.begin for stage in played for one in stage if one.action.kind in (FORWARD, BACKWARD, WEIGHTS)
    )
    bubble = 1 - work / (len(played) * seconds) if seconds else 0.0
    return Simulation(
        played, seconds, bubble, _most(played, FORWARD, BACKWARD, chunks), _most(played, BACKWARD, WEIGHTS, chunks)
    )


def _most(played: tuple[tuple[Played, ...], ...], first: str, last: str, chunks: int) -> tuple[int, ...]:
    """By chunk, the most microbatches at one time between two kinds of action; those without the last do not count."""
    now, most = [0] * chunks, [0] * chunks
    ending = {one.action for stage in played for one in stage if one.action.kind == last}
    for stage in played:
        for action, _, _ in stage:
            if action.kind == last:
                now[action.chunk] -= 1
            elif action.kind == first and action._replace(kind=last) in ending:
                now[action.chunk] += 1
                most[action.chunk] = max(most[action.chunk], now[action.chunk])
    return tuple(most)
