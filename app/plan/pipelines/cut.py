"""Where a network is cut into chunks: runs of consecutive layers, so that the busiest stage has as little as can be."""

from collections.abc import Callable, Sequence
from itertools import accumulate, combinations, pairwise
from math import comb, inf

from app.errors import InputError
from app.inputfile.sentences import nearest

FILL = 0.25  # how much the longest chunk counts beside the busiest stage: filling and draining takes its time
CHEAP = 20_000  # ways to cut that are all tried where a stage holds several chunks
Held = Callable[[range, int], float]  # (layers, chunk) -> bytes
Cost = Callable[[int, int, int], float]  # (first layer, stop, chunk) -> what it costs there


class CannotFit(ValueError):
    """No way to cut was found in which each stage holds at most `limit` bytes; `held`: of the fullest, at best."""

    def __init__(self, held: float, limit: float) -> None:
        super().__init__(f"the fullest stage holds {held:.0f} bytes, more than {limit:.0f}")
        self.held = held
        self.limit = limit


def cut(
    costs: Sequence[float],
    parts: int,
    *,
    stages: int | None = None,
    held: Held | None = None,
    limit: float | None = None,
) -> tuple[range, ...]:
    """The layers of each of `parts` chunks, at least one each: the busiest stage costs least, ties: the more even cut.

    A stage holds chunks s, s + stages, ...; stages None: each chunk has a stage of its own. `held` says what a chunk
    holds; no stage holds more than `limit`. With one chunk a stage the cut is the best there is (dynamic programming).
    With several the longest chunk counts a little too; the cut is the best where there are few ways, else the best by
    chunk, bettered boundary by boundary.
    Collective over: none. Raises CannotFit, ValueError where there are fewer layers than parts.
    """
    if parts > len(costs):
        raise ValueError(f"{len(costs)} layers cannot be cut into {parts} chunks")
    stages = stages or parts
    if stages == parts:
        return _one_chunk_each(costs, parts, held, limit)
    return _several_chunks(costs, parts, stages, held, limit)


def named_cut(names: Sequence[str], firsts: Sequence[str], parts: int) -> tuple[range, ...]:
    """Chunks that begin at the first layer and at each layer named in `firsts`.

    Collective over: none. Raises InputError with all that is wrong about the names.
    """
    problems = [f"no layer is named {name!r}{nearest(name, names)}" for name in firsts if name not in names]
    if len(firsts) != parts - 1:
        problems.append(f"{len(firsts)} layers are named, but {parts} chunks need {parts - 1}.")
    places = [names.index(name) for name in firsts if name in names]
    if 0 in places:
        problems.append(f"{names[0]!r} is the first layer, where the first chunk begins anyway; leave it out.")
    for before, after in pairwise(places):
        if after <= before:
            order = f"comes before {names[before]!r}" if after < before else "is named twice"
            problems.append(f"{names[after]!r} {order}; name layers in the network's order: {', '.join(names)}.")
    if problems:
        raise InputError(*(f"[grid] cut: {problem}" for problem in problems))
    return _ranges((0, *places, len(names)))


def _ranges(bounds: Sequence[int]) -> tuple[range, ...]:
    return tuple(range(first, stop) for first, stop in pairwise(bounds))


def _one_chunk_each(costs: Sequence[float], parts: int, held: Held | None, limit: float | None) -> tuple[range, ...]:
    sums = [0.0, *accumulate(costs)]

    def fits(first: int, stop: int, chunk: int) -> bool:
        return held is None or limit is None or held(range(first, stop), chunk) <= limit

    def load(first: int, stop: int, chunk: int) -> float:
        return sums[stop] - sums[first]

    least, _ = _best(len(costs), parts, load, max, fits)
    if least == inf and held is not None and limit is not None:  # nothing else forbids a cut
        fullest, _ = _best(len(costs), parts, lambda i, j, chunk: held(range(i, j), chunk), max, lambda *_: True)
        raise CannotFit(fullest, limit)
    bound = least * (1 + 1e-12)  # sums of the same costs may differ by rounding

    def square(first: int, stop: int, chunk: int) -> float:
        own = load(first, stop, chunk)
        return own**2 if own <= bound else inf

    _, bounds = _best(len(costs), parts, square, lambda a, b: a + b, fits)
    return _ranges(bounds)


def _best(
    layers: int,
    parts: int,
    cost: Cost,
    join: Callable[[float, float], float],
    fits: Callable[[int, int, int], bool],
) -> tuple[float, list[int]]:
    """The least joined cost of `parts` chunks and where they begin and end; inf where none fits.

    Costs grow with the chunk, and `join` gives no less than either of its arguments: hence the early end below.
    """
    best, begins = [0.0] + [inf] * layers, []
    for part in range(parts):
        now, begin = [inf] * (layers + 1), [0] * (layers + 1)
        for stop in range(part + 1, layers - parts + part + 2):
            for first in range(stop - 1, part - 1, -1):
                own = cost(first, stop, part)
                if own >= now[stop]:
                    break
                value = join(best[first], own)
                if value < now[stop] and fits(first, stop, part):
                    now[stop], begin[stop] = value, first
        best = now
        begins.append(begin)
    bounds = [layers]
    for begin in reversed(begins):
        bounds.append(begin[bounds[-1]])
    return best[layers], bounds[::-1]


def _several_chunks(
    costs: Sequence[float], parts: int, stages: int, held: Held | None, limit: float | None
) -> tuple[range, ...]:
    sums = [0.0, *accumulate(costs)]

    def quality(bounds: tuple[int, ...]) -> tuple[float, float, float]:
        """Bytes beyond the limit, load of the busiest stage with its share of filling, unevenness: less is better."""
        chunks = [sums[stop] - sums[first] for first, stop in pairwise(bounds)]
        busiest = max(sum(chunks[stage::stages]) for stage in range(stages))
        over = 0.0 if held is None or limit is None else max(0.0, _fullest(_ranges(bounds), stages, held) - limit)
        return over, busiest + FILL * max(chunks), sum(chunk**2 for chunk in chunks)

    if comb(len(costs) - 1, parts - 1) <= CHEAP:
        found = min(((0, *inner, len(costs)) for inner in combinations(range(1, len(costs)), parts - 1)), key=quality)
    else:
        even = _one_chunk_each(costs, parts, None, None)
        found = _bettered((0, *(piece.stop for piece in even)), quality)
    over = quality(found)[0]
    if over > 0:
        raise CannotFit(limit + over if limit else over, limit or 0)
    return _ranges(found)


def _bettered(bounds: tuple[int, ...], quality: Callable[[tuple[int, ...]], tuple[float, ...]]) -> tuple[int, ...]:
    """Boundaries moved one at a time for as long as that helps."""
    best = quality(bounds)
    while True:
        before = best
        for place in range(1, len(bounds) - 1):
            for bound in range(bounds[place - 1] + 1, bounds[place + 1]):
                moved = (*bounds[:place], bound, *bounds[place + 1 :])
                if (value := quality(moved)) < best:
                    best, bounds = value, moved
        if best == before:
            return bounds


def _fullest(pieces: Sequence[range], stages: int, held: Held) -> float:
    """Bytes of the stage that holds most."""
    totals = [0.0] * stages
    for chunk, piece in enumerate(pieces):
        totals[chunk % stages] += held(piece, chunk)
    return max(totals)
