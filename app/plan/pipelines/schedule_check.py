"""The checker of schedules: says what is wrong with one, however it was made."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from app.plan.pipelines.schedules import (
    ALL,
    BACKWARD,
    FORWARD,
    RECEIVE_ACTIVATIONS,
    RECEIVE_GRADIENTS,
    RECEIVES,
    REDUCE,
    SEND_ACTIVATIONS,
    SEND_GRADIENTS,
    SENDS,
    WEIGHTS,
    Action,
    Schedule,
    received,
)


def problems(schedule: Schedule) -> list[str]:
    """What is wrong with a schedule, a line each; nothing where it can be played.

    Asks for each microbatch once through every chunk, forward and, unless no stage works backwards, back, with the
    messages this takes and one REDUCE a chunk; for every action after those it needs; for the backwards of a chunk
    in ascending order; for receives in the order of their sends between two stages; for no circular wait when sends
    never block and receives do. Collective over: none.
    """
    return [*_counts(schedule), *_order(schedule), *_messages(schedule)] or _circular_wait(schedule)


def _counts(schedule: Schedule) -> Iterator[str]:
    """Actions that are missing, there several times, or not of this stage."""
    expected = _expected(schedule)
    for stage, actions in enumerate(schedule):
        counts = Counter(actions)
        for action in sorted(expected[stage] - counts.keys()):
            yield f"stage {stage}: {_words(action)} is missing"
        for action, count in counts.items():
            if action not in expected[stage]:
                yield f"stage {stage}: {_words(action)} does not belong here"
            elif count > 1:
                yield f"stage {stage}: {_words(action)} is there {count} times"


def _expected(schedule: Schedule) -> list[set[Action]]:
    actions = {action for stage in schedule for action in stage}
    stages = len(schedule)
    chunks = -(-max((action.chunk + 1 for action in actions), default=0) // stages) * stages
    microbatches = max((action.microbatch + 1 for action in actions), default=0)
    back = any(action.kind in (BACKWARD, WEIGHTS, REDUCE) for action in actions)
    expected: list[set[Action]] = [set() for _ in schedule]
    for chunk in range(chunks):
        kinds = [FORWARD, BACKWARD, WEIGHTS] if back else [FORWARD]
        if stages > 1 and chunk > 0:
            kinds += [RECEIVE_ACTIVATIONS, SEND_GRADIENTS] if back else [RECEIVE_ACTIVATIONS]
        if stages > 1 and chunk < chunks - 1:
            kinds += [SEND_ACTIVATIONS, RECEIVE_GRADIENTS] if back else [SEND_ACTIVATIONS]
        there = expected[chunk % stages]
        there.update(Action(kind, chunk, i) for kind in kinds for i in range(microbatches))
        there.update([Action(REDUCE, chunk, ALL)] if back else [])
    return expected


def _order(schedule: Schedule) -> Iterator[str]:
    """Actions that stand before one of their own stage that they need."""
    for stage, actions in enumerate(schedule):
        place = {action: number for number, action in enumerate(actions)}
        for action in actions:
            for needed in _needs(action, len(schedule), place):
                if place.get(needed, -1) > place[action]:
                    yield f"stage {stage}: {_words(action)} stands before {_words(needed)}"


def _needs(action: Action, stages: int, place: dict[Action, int]) -> list[Action]:
    """What an action needs of its own stage; what is not in the list of the stage is no matter."""
    kind, chunk, microbatch = action
    alone = stages == 1
    if kind == REDUCE:
        return [other for other in place if other.kind == WEIGHTS and other.chunk == chunk]
    if kind == FORWARD:
        before = Action(FORWARD, chunk - 1, microbatch) if alone else Action(RECEIVE_ACTIVATIONS, chunk, microbatch)
        return [before]
    if kind == BACKWARD:
        before = Action(BACKWARD, chunk + 1, microbatch) if alone else Action(RECEIVE_GRADIENTS, chunk, microbatch)
        return [before, Action(FORWARD, chunk, microbatch), Action(BACKWARD, chunk, microbatch - 1)]
    producer = {SEND_ACTIVATIONS: FORWARD, SEND_GRADIENTS: BACKWARD, WEIGHTS: BACKWARD}
    return [Action(producer[kind], chunk, microbatch)] if kind in producer else []


def _messages(schedule: Schedule) -> Iterator[str]:
    """Pairs of stages where the receives of one direction are not in the order of the sends."""
    sent, taken = defaultdict(list), defaultdict(list)
    stages = len(schedule)
    for stage, actions in enumerate(schedule):
        for action in actions:
            if action.kind in SENDS:
                receive = received(action)
                sent[stage, receive.chunk % stages, receive.kind].append(receive)
            elif action.kind in RECEIVES:
                by = -1 if action.kind == RECEIVE_ACTIVATIONS else 1
                taken[(action.chunk + by) % stages, stage, action.kind].append(action)
    for way in sorted(sent.keys() | taken.keys()):
        for number, (send, receive) in enumerate(zip(sent[way], taken[way], strict=False)):
            if send != receive:
                yield (
                    f"stage {way[1]}: message {number} from stage {way[0]} is taken for {_words(receive)}, "
                    f"but was sent for {_words(send)}"
                )
                break


def _circular_wait(schedule: Schedule) -> list[str]:
    """Plays the lists as far as they go; a stage that does not come to its end waits for ever."""
    place, sent, moved = [0] * len(schedule), set(), True
    while moved:
        moved = False
        for stage, actions in enumerate(schedule):
            while place[stage] < len(actions):
                action = actions[place[stage]]
                if action.kind in RECEIVES and action not in sent:
                    break
                if action.kind in SENDS:
                    sent.add(received(action))
                place[stage] += 1
                moved = True
    stuck = [
        (stage, actions[at])
        for stage, (at, actions) in enumerate(zip(place, schedule, strict=True))
        if at < len(actions)
    ]
    return [f"stage {stage}: waits for ever at {_words(action)} (circular wait)" for stage, action in stuck]


def _words(action: Action) -> str:
    of = f" of microbatch {action.microbatch}" if action.microbatch != ALL else ""
    return f"{action.kind}{of} in chunk {action.chunk}"
