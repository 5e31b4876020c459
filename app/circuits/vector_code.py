"""Loops in LLVM's vector instructions over a block of amplitudes, for numba.

Each loop is generated for the element type it is called with (float32, float64) and for vectors of LANES elements, as
numba's own loops over interleaved bits do not become vector instructions. A loop runs over the indices of which the
bits of `fixed` are zero, LANES at a time: `i = ((i | fixed) + LANES) & ~fixed` steps to the next. Coefficients are
vectors, one element a lane, so that a gate may differ between lanes (a control among the lowest bits).

re, im: 1-d contiguous arrays; base: index of the block's first amplitude in them.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

VECTOR_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32
LANES = {"float32": VECTOR_BYTES // 4, "float64": VECTOR_BYTES // 8}
INDEX = ir.IntType(64)


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
        return self.fma(b.fneg(fi), xi, re), self.fma(fi, xr, im)

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


def _loop(body: Callable[..., None]) -> Any:
    """An intrinsic (re, im, base, count, fixed, value, bit, coefficients, offset) that loops over `body`.

    body(code, re, im, first, second, coefficients): first and second are element numbers of the pair of vectors, which
    differ in `bit`.
    """

    @intrinsic
    def loop(typing, re, im, base, count, fixed, value, bit, coefficients, offset):
        signature = types.void(re, im, base, count, fixed, value, bit, coefficients, offset)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            re_, im_, base_, count_, fixed_, value_, bit_, table_, offset_ = arguments
            code = Code(context, builder, signature.args[0])
            x, y = code.data(signature.args[0], re_), code.data(signature.args[1], im_)
            table = code.data(signature.args[7], table_)
            start = builder.add(base_, value_)

            def each(index: Any) -> None:
                first = builder.add(start, index)
                body(code, x, y, first, builder.add(first, bit_), table, offset_)

            code.loop(count_, fixed_, each)
            return context.get_dummy_value()

        return signature, generate

    return loop


def _pair(code: Code, re: Any, im: Any, first: Any, second: Any, table: Any, offset: Any) -> None:
    c = code.coefficients(table, offset, 8)
    x, y = code.complex(re, im, first), code.complex(re, im, second)
    for index, (a, b) in ((first, (0, 2)), (second, (4, 6))):
        r, i = code.times((c[b], c[b + 1]), y, code.times((c[a], c[a + 1]), x))
        code.store(r, re, index)
        code.store(i, im, index)


def _real_pair(code: Code, re: Any, im: Any, first: Any, second: Any, table: Any, offset: Any) -> None:
    c = code.coefficients(table, offset, 8)
    b = code.builder
    for part in (re, im):
        x, y = code.load(part, first), code.load(part, second)
        code.store(code.fma(c[2], y, b.fmul(c[0], x)), part, first)
        code.store(code.fma(c[6], y, b.fmul(c[4], x)), part, second)


def _exchange(code: Code, re: Any, im: Any, first: Any, second: Any, table: Any, offset: Any) -> None:
    for part in (re, im):
        x, y = code.load(part, first), code.load(part, second)
        code.store(y, part, first)
        code.store(x, part, second)


def _scale(code: Code, re: Any, im: Any, first: Any, second: Any, table: Any, offset: Any) -> None:
    factor = code.coefficients(table, offset, 2)
    r, i = code.times((factor[0], factor[1]), code.complex(re, im, first))
    code.store(r, re, first)
    code.store(i, im, first)


def _lane(bit: int) -> Callable[..., None]:
    def body(code: Code, re: Any, im: Any, first: Any, second: Any, table: Any, offset: Any) -> None:
        c = code.coefficients(table, offset, 4)
        x = code.complex(re, im, first)
        other = code.flip(x[0], bit), code.flip(x[1], bit)
        r, i = code.times((c[2], c[3]), other, code.times((c[0], c[1]), x))
        code.store(r, re, first)
        code.store(i, im, first)

    return body


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


pair = _loop(_pair)
real_pair = _loop(_real_pair)
exchange = _loop(_exchange)
scale = _loop(_scale)
# A bit beyond the lanes of an element type is never asked for.
pair_moment = _moment(_pair_moment, 4)
same_moment = _moment(_same_moment, 1)
lane_moments = [_moment(_lane_moment(bit), 2) for bit in range(4)]
lane_loops = [_loop(_lane(bit)) for bit in range(4)]
