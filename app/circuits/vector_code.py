"""Loops in LLVM's vector instructions over a block of amplitudes, for numba.

Each loop is generated for the element type it is called with (float32, float64) and for vectors of LANES elements, as
numba's own loops over interleaved bits do not become vector instructions. A loop runs over the indices of which the
bits of `fixed` are zero, LANES at a time: `i = ((i | fixed) + LANES) & ~fixed` steps to the next. Coefficients are
vectors, one element a lane, so that a gate may differ between lanes (a control among the lowest bits).

re, im: 1-d contiguous arrays; base: index of the block's first amplitude in them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

VECTOR_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32
LANES = {"float32": VECTOR_BYTES // 4, "float64": VECTOR_BYTES // 8}
INDEX = ir.IntType(64)
FINGERPRINT = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled by numba, without the GIL, machine code kept on disk.

    numba throws old code away by the date of the function's own file: that of these loops is put into the name it is
    kept under.
    """
    function.__qualname__ += f"_{FINGERPRINT}"
    return njit(nogil=True, cache=True)(function)


class Code:
    """Writes the instructions of one loop body."""

    def __init__(self, context: Any, builder: Any, array: Any) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_value_type(array.dtype)
        self.lanes = LANES[str(array.dtype)]
        self.bytes = array.dtype.bitwidth // 8
        self.vector = ir.VectorType(self.element, self.lanes)

    def data(self, array_type: Any, array: Any) -> Any:
        """Pointer to an array's first element."""
        return arrayobj.make_array(array_type)(self.context, self.builder, array).data

    def load(self, pointer: Any, index: Any) -> Any:
        """The vector that begins at an element."""
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.vector.as_pointer())
        return self.builder.load(place, align=self.bytes)

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        """Put a vector where it begins at an element."""
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.vector.as_pointer())
        self.builder.store(vector, place, align=self.bytes)

    def complex(self, re: Any, im: Any, index: Any) -> tuple[Any, Any]:
        """The amplitudes that begin at an index."""
        return self.load(re, index), self.load(im, index)

    def coefficients(self, pointer: Any, offset: Any, count: int) -> list[Any]:
        """`count` coefficient vectors."""
        return [self.load(pointer, self.builder.add(offset, ir.Constant(INDEX, k * self.lanes))) for k in range(count)]

    def times(self, factor: tuple[Any, Any], x: tuple[Any, Any], to: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        """factor * x (+ to), complex."""
        b = self.builder
        (fr, fi), (xr, xi) = factor, x
        re = b.fmul(fr, xr) if to is None else self.fma(fr, xr, to[0])
        im = b.fmul(fr, xi) if to is None else self.fma(fr, xi, to[1])
        return self.fma(fi, b.fneg(xi), re), self.fma(fi, xr, im)  # a factor's own negative would need a register

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z, rounded once."""
        name = f"llvm.fma.v{self.lanes}f{self.bytes * 8}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [x, y, z])

    def flip(self, x: Any, bit: int) -> Any:
        """A vector with the lanes exchanged whose numbers differ in one bit."""
        mask = ir.Constant(
            ir.VectorType(ir.IntType(32), self.lanes), [(lane ^ (1 << bit)) % self.lanes for lane in range(self.lanes)]
        )
        return self.builder.shuffle_vector(x, ir.Constant(self.vector, ir.Undefined), mask)

    def loop(self, count: Any, fixed: Any, body: Callable[[Any], None]) -> None:
        """`body` for each of `count` vectors of indices."""
        b = self.builder
        place = cgutils.alloca_once_value(b, ir.Constant(INDEX, 0))
        step, keep = ir.Constant(INDEX, self.lanes), b.not_(fixed)
        with cgutils.for_range(b, count):
            index = b.load(place)
            body(index)
            b.store(b.and_(b.add(b.or_(index, fixed), step), keep), place)


def _loop(body: Callable[..., None], coefficients: int) -> Any:
    """An intrinsic (re, im, base, count, fixed, value, bit, table, offset) that loops over `body`.

    body(code, re, im, first, second, factors): first and second are element numbers of the pair of vectors, which
    differ in `bit`; factors: that many vectors of the table, from `offset`.
    """

    @intrinsic
    def loop(typing, re, im, base, count, fixed, value, bit, table, offset):
        signature = types.void(re, im, base, count, fixed, value, bit, table, offset)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            re_, im_, base_, count_, fixed_, value_, bit_, table_, offset_ = arguments
            code = Code(context, builder, signature.args[0])
            x, y = code.data(signature.args[0], re_), code.data(signature.args[1], im_)
            # loaded once: the compiler cannot know that the amplitudes stored are no coefficients
            factors = code.coefficients(code.data(signature.args[7], table_), offset_, coefficients)
            start = builder.add(base_, value_)

            def each(index: Any) -> None:
                first = builder.add(start, index)
                body(code, x, y, first, builder.add(first, bit_), factors)

            code.loop(count_, fixed_, each)
            return context.get_dummy_value()

        return signature, generate

    return loop


def _mixed(code: Code, x: Any, y: Any, c: list[Any]) -> tuple[Any, Any]:
    """A 2x2 matrix, eight coefficient vectors, on two amplitudes."""
    return (
        code.times((c[2], c[3]), y, code.times((c[0], c[1]), x)),
        code.times((c[6], c[7]), y, code.times((c[4], c[5]), x)),
    )


def _flipped(code: Code, x: Any, bit: int, c: list[Any]) -> Any:
    """A 2x2 matrix between lanes that differ in a bit: factors of a lane itself, then of the other."""
    other = code.flip(x[0], bit), code.flip(x[1], bit)
    return code.times((c[2], c[3]), other, code.times((c[0], c[1]), x))


def _put(code: Code, re: Any, im: Any, index: Any, x: Any) -> None:
    code.store(x[0], re, index)
    code.store(x[1], im, index)


def _pair(code: Code, re: Any, im: Any, first: Any, second: Any, c: list[Any]) -> None:
    x, y = _mixed(code, code.complex(re, im, first), code.complex(re, im, second), c)
    _put(code, re, im, first, x)
    _put(code, re, im, second, y)


def _real_pair(code: Code, re: Any, im: Any, first: Any, second: Any, c: list[Any]) -> None:
    b = code.builder
    for part in (re, im):
        x, y = code.load(part, first), code.load(part, second)
        code.store(code.fma(c[2], y, b.fmul(c[0], x)), part, first)
        code.store(code.fma(c[6], y, b.fmul(c[4], x)), part, second)


def _exchange(code: Code, re: Any, im: Any, first: Any, second: Any, c: list[Any]) -> None:
    for part in (re, im):
        x, y = code.load(part, first), code.load(part, second)
        code.store(y, part, first)
        code.store(x, part, second)


def _scale(code: Code, re: Any, im: Any, first: Any, second: Any, c: list[Any]) -> None:
    _put(code, re, im, first, code.times((c[0], c[1]), code.complex(re, im, first)))


def _lane(bit: int) -> Callable[..., None]:
    def body(code: Code, re: Any, im: Any, first: Any, second: Any, c: list[Any]) -> None:
        _put(code, re, im, first, _flipped(code, code.complex(re, im, first), bit, c))

    return body


def _unit_mixed(code: Code, x: Any, y: Any, c: list[Any]) -> tuple[Any, Any]:
    """A 2x2 matrix with ones on its diagonal, four coefficient vectors, on two amplitudes."""
    return code.times((c[0], c[1]), y, x), code.times((c[2], c[3]), x, y)


def _two(first: int | None, second: int | None, mixed: Callable[..., Any] = _mixed, factors: int = 8) -> Any:
    """An intrinsic as of `_loop` with more arguments behind `bit`: two matrices and a phase, amplitudes fetched once.

    first, second: bit of the lanes that a matrix mixes; None: it mixes vectors that differ in `bit`, in `other`, by
    `mixed` with so many factors. `swapped`: of these two bits, those in which vectors change places beforehand. Without
    lanes the last of the vectors, where both bits are one, is multiplied by a factor at the end.
    """
    counts = [factors if bit is None else 4 for bit in (first, second)] + [2 if first is None else 0]

    @intrinsic
    def loop(typing, re, im, base, count, fixed, value, bit, other, swapped, table, offset):
        signature = types.void(re, im, base, count, fixed, value, bit, other, swapped, table, offset)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            re_, im_, base_, count_, fixed_, value_, bit_, other_, swapped_, table_, offset_ = arguments
            code = Code(context, builder, signature.args[0])
            x, y = code.data(signature.args[0], re_), code.data(signature.args[1], im_)
            c = code.coefficients(code.data(signature.args[9], table_), offset_, sum(counts))
            start = builder.add(base_, value_)

            def each(index: Any) -> None:
                places = [builder.add(start, index)]
                for lane, step in ((first, bit_), (second, other_)):
                    places += [builder.add(place, step) for place in places if lane is None]
                z = [code.complex(x, y, builder.xor(place, swapped_)) for place in places]
                distance = 1
                for lane, own in ((first, c[: counts[0]]), (second, c[counts[0] : sum(counts[:2])])):
                    if lane is not None:
                        z = [_flipped(code, one, lane, own) for one in z]
                        continue
                    for low in range(len(z)):
                        if not low & distance:
                            z[low], z[low + distance] = mixed(code, z[low], z[low + distance], own)
                    distance *= 2
                if first is None:
                    z[-1] = code.times((c[-2], c[-1]), z[-1])
                for place, one in zip(places, z, strict=True):
                    _put(code, x, y, place, one)

            code.loop(count_, fixed_, each)
            return context.get_dummy_value()

        return signature, generate

    return loop


@intrinsic
def copy(typing, source, start, target, first, count):
    """Copy `count` elements, whole vectors; numba's own loop over them takes twice as long."""
    signature = types.void(source, start, target, first, count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature.args[0])
        read, written = code.data(signature.args[0], arguments[0]), code.data(signature.args[2], arguments[2])
        lanes = ir.Constant(INDEX, code.lanes)
        with cgutils.for_range(builder, builder.udiv(arguments[4], lanes)) as loop:
            at = builder.mul(loop.index, lanes)
            code.store(code.load(read, builder.add(arguments[1], at)), written, builder.add(arguments[3], at))
        return context.get_dummy_value()

    return signature, generate


def _moment(products: Callable[..., list[tuple[Any, Any]]], pairs: int) -> Any:
    """An intrinsic (re, im, re2, im2, base, count, fixed, value, bit, sums) that adds up conj(first) * second.

    products(code, first, second, ...) gives pairs of vectors; sums: (2 * pairs, LANES), real parts in even rows.
    """

    @intrinsic
    def loop(typing, re, im, re2, im2, base, count, fixed, value, bit, sums):
        signature = types.void(re, im, re2, im2, base, count, fixed, value, bit, sums)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = Code(context, builder, signature.args[0])
            states = [code.data(signature.args[n], arguments[n]) for n in range(4)]
            base_, count_, fixed_, value_, bit_ = arguments[4:9]
            start = builder.add(base_, value_)
            zero = ir.Constant(code.vector, None)
            places = [cgutils.alloca_once_value(builder, zero) for _ in range(2 * pairs)]
            for place in places:  # its value is given where it is made, and that is outside of all loops
                builder.store(zero, place)

            def each(index: Any) -> None:
                first = builder.add(start, index)
                for number, (x, y) in enumerate(products(code, states, first, builder.add(first, bit_))):
                    at = places[2 * number], places[2 * number + 1]
                    re_, im_ = code.times((x[0], builder.fneg(x[1])), y, (builder.load(at[0]), builder.load(at[1])))
                    builder.store(re_, at[0])
                    builder.store(im_, at[1])

            code.loop(count_, fixed_, each)
            target = code.data(signature.args[9], arguments[9])
            for number, place in enumerate(places):
                code.store(builder.load(place), target, ir.Constant(INDEX, number * code.lanes))
            return context.get_dummy_value()

        return signature, generate

    return loop


def _pair_moment(code: Code, states: list[Any], first: Any, second: Any) -> list[Any]:
    x = [code.complex(states[0], states[1], index) for index in (first, second)]
    y = [code.complex(states[2], states[3], index) for index in (first, second)]
    return [(a, b) for a in x for b in y]


def _same_moment(code: Code, states: list[Any], first: Any, second: Any) -> list[Any]:
    return [(code.complex(states[0], states[1], first), code.complex(states[2], states[3], first))]


def _lane_moment(bit: int) -> Callable[..., list[Any]]:
    def products(code: Code, states: list[Any], first: Any, second: Any) -> list[Any]:
        x, y = code.complex(states[0], states[1], first), code.complex(states[2], states[3], first)
        return [(x, y), (x, (code.flip(y[0], bit), code.flip(y[1], bit)))]

    return products


pair = _loop(_pair, 8)
real_pair = _loop(_real_pair, 8)
exchange = _loop(_exchange, 0)
scale = _loop(_scale, 2)
# A bit beyond the lanes of an element type is never asked for.
lane_loops = [_loop(_lane(bit), 4) for bit in range(4)]
two_pairs = _two(None, None)
two_unit_pairs = _two(None, None, _unit_mixed, 4)
lane_and_pair = [_two(bit, None) for bit in range(4)]
two_lanes = {(low, high): _two(low, high) for high in range(4) for low in range(high)}
pair_moment = _moment(_pair_moment, 4)
same_moment = _moment(_same_moment, 1)
lane_moments = [_moment(_lane_moment(bit), 2) for bit in range(4)]
