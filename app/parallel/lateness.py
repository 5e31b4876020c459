"""What late ranks tell each other through small files, and the sentences made of it."""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

RANKS_NAMED = 8  # in one sentence
LATE, ASKS, HERE = "late", "asks", "here"  # where two files of a rank are seen, the first counts


class State(NamedTuple):
    """What one rank is doing. operation: "" when in none; seconds in it; number: operations finished before."""

    rank: int
    host: str
    operation: str
    seconds: float
    finished: str
    number: int
    place: str
    place_seconds: float


class Notes:
    """One file per rank in a folder all ranks see: late-RANK of a rank that waits too long, asks-RANK of one that only
    wants to know whether the others are there, here-RANK of one that answers.
    """

    def __init__(self, folder: Path, rank: int, size: int) -> None:
        self._folder, self._rank, self._size = folder, rank, size

    def exchange(self, state: State, kind: str) -> dict[int, State]:
        """Show this rank's state and read everybody's. A full or broken disk leaves this rank's own. By rank."""
        name = f"{kind}-{self._rank}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{name}.new").write_text(json.dumps(state))
            os.replace(self._folder / f"{name}.new", self._folder / name)
        except OSError:
            self._remove(f"{name}.new")
            with contextlib.suppress(OSError):
                (self._folder / name).touch()  # a disk that is full mostly takes a name
        self._remove_own({LATE, ASKS, HERE} - {kind})
        return self._read() | {self._rank: state}

    def forget_answers(self) -> None:
        """Those to an earlier question; who lives answers again, and who was stopped has not taken its own back."""
        for rank in self._numbers(HERE):
            self._remove(f"{HERE}-{rank}")

    def there(self) -> set[int]:
        """The ranks of which there is a file, with a state or without."""
        return {rank for kind in (LATE, ASKS, HERE) for rank in self._numbers(kind) if rank < self._size}

    def late(self) -> list[int]:
        """The ranks that have written that they wait too long, ascending."""
        return sorted(rank for rank in self._numbers(LATE) if rank < self._size)

    def asking(self) -> list[int]:
        """The ranks that want to know whether the others are there, ascending."""
        return sorted(rank for rank in self._numbers(ASKS) if rank < self._size)

    def remove_own(self) -> None:
        """Take this rank's files back."""
        self._remove_own({LATE, ASKS, HERE})

    def clear(self) -> None:
        """Remove this rank's files, and those of ranks that an earlier, larger run left behind."""
        self.remove_own()
        if self._rank == 0:
            for kind in (LATE, ASKS, HERE):
                for rank in self._numbers(kind):
                    if rank >= self._size:
                        self._remove(f"{kind}-{rank}")
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # only the last one to leave finds it empty

    def _remove_own(self, kinds: set[str]) -> None:
        for kind in kinds:
            self._remove(f"{kind}-{self._rank}")

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)

    def _numbers(self, kind: str) -> list[int]:
        prefix = f"{kind}-"
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        ends = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return [int(end) for end in ends if end.isdigit()]

    def _read(self) -> dict[int, State]:
        states = {}
        for kind in (HERE, ASKS, LATE):
            for rank in self._numbers(kind):
                try:
                    states[rank] = State(*json.loads((self._folder / f"{kind}-{rank}").read_text()))
                except (OSError, ValueError, TypeError):
                    continue  # being replaced just now; the next look finds it
        return {rank: state for rank, state in states.items() if rank < self._size}


def diagnosis(states: dict[int, State], mine: State, size: int, limit_s: float) -> list[str]:
    """Sentences: which operation takes too long, who waits in it, what each of the others does instead."""
    waiting = [state for state in states.values() if state.operation == mine.operation]
    lines = [
        f'"{mine.operation}" has taken {mine.seconds:.0f} s on rank {mine.rank} on {mine.host} at {mine.place}; '
        f"the limit is {limit_s:g} s. All ranks are ended.",
        f"{len(waiting)} of {size} ranks wait in it: {_ranks(waiting)}.",
    ]
    lines += [_elsewhere(state) for _, state in sorted(states.items()) if state.operation != mine.operation]
    silent = [rank for rank in range(size) if rank not in states]
    if silent:
        names = ", ".join(map(str, silent[:RANKS_NAMED])) + (", ..." if len(silent) > RANKS_NAMED else "")
        lines.append(f"no answer from rank {names}: stopped, killed, on a host that is down, or it has left already.")
    if len(waiting) == size:
        lines.append(_mismatch(waiting))
    return lines


def _ranks(states: list[State]) -> str:
    named = ", ".join(f"{state.rank} ({state.host})" for state in sorted(states)[:RANKS_NAMED])
    return named + (", ..." if len(states) > RANKS_NAMED else "")


def _elsewhere(state: State) -> str:
    """What a rank does that has not reached the operation."""
    if state.operation:
        doing = f'is in "{state.operation}" since {state.seconds:.0f} s'
    else:
        doing = f'is in no operation, the last it finished was "{state.finished}"'
    place = f"at {state.place}, unchanged for {state.place_seconds:.0f} s"
    return f"rank {state.rank} on {state.host} has not reached it: it {doing}, {place}."


def _mismatch(waiting: list[State]) -> str:
    """All ranks are in the operation and still it does not end."""
    counts = sorted({state.number for state in waiting})
    places = sorted({state.place for state in waiting})
    if len(places) > 1 or len(counts) > 1:
        return (
            f"All ranks are in it, but not in the same one: their places are {'; '.join(places[:RANKS_NAMED])}, "
            f"the operations they finished before number {', '.join(map(str, counts[:RANKS_NAMED]))}."
        )
    return "All ranks are in the same one: they passed different sizes, or the network between the hosts is broken."
