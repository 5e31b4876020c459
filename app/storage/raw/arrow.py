"""Columns of Arrow, from CSV or Parquet, as arrays of NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.storage.raw.records import decoded, texts

Found = tuple[np.ndarray, dict[int, str]]
Widths = tuple[int, ...]


def is_text(kind: pa.DataType) -> bool:
    """Text or bytes, in a dictionary too."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(kind)
        for test in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_null,
        )
    )  # fmt: skip


def is_number(kind: pa.DataType) -> bool:
    """What becomes a number, times too."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(kind)
        for test in (
            pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal,
        )
    ) and not pa.types.is_interval(kind)  # fmt: skip


def is_list(kind: pa.DataType) -> bool:
    """A list of each of the three kinds."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Without chunks, dictionaries and extension types."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def text_column(array: pa.Array, name: str) -> Found:
    """(n,) texts; nothing is the empty one."""
    if pa.types.is_null(array.type):
        return texts([""] * len(array)), {}
    try:
        return texts(array.cast(pa.large_string()).fill_null("").to_pylist()), {}
    except pa.ArrowInvalid:  # not of UTF-8
        return decoded(array.cast(pa.large_binary()).to_pylist(), name)


def number_column(array: pa.Array, name: str, *, floating: bool = False) -> Found:
    """(n,) numbers; a missing one is NaN, which makes whole numbers float64, and a missing time a bad record.

    floating: whole numbers become float64 in any case.
    """
    if pa.types.is_temporal(array.type):
        return _times(array, name)
    if pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.float64())
    elif (array.null_count or floating) and not pa.types.is_floating(array.type):
        array = (array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array).cast(pa.float64(), safe=False)
    values = array.to_numpy(zero_copy_only=False)
    return np.array(values) if not values.flags.writeable else values, {}


def _times(array: pa.Array, name: str) -> Found:
    """Nanoseconds since 1970, or of the day, or of a span."""
    kind = array.type
    if pa.types.is_time(kind):
        array = array.cast(pa.time64("ns"))
    elif pa.types.is_duration(kind):
        array = array.cast(pa.duration("ns"))
    else:
        array = array.cast(pa.timestamp("ns", tz=getattr(kind, "tz", None)))
    absent = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    return np.array(array.cast(pa.int64()).fill_null(0)), dict.fromkeys(absent, f"'{name}' has no time")


def list_column(array: pa.Array, name: str, widths: Widths, inner: Callable[[pa.Array, str], Found]) -> Found:
    """(n, *widths) of lists in lists; records whose lists have another length are bad."""
    if not widths:
        return inner(array, name)
    count, width = len(array), widths[0]
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.full(count, array.type.list_size)
    else:
        lengths = np.asarray(pc.list_value_length(array).fill_null(0))
    absent = array.is_null().to_numpy(zero_copy_only=False)
    good = (lengths == width) & ~absent
    bad = {
        row: f"'{name}' is missing" if absent[row] else f"'{name}' has {lengths[row]} values, expected {width}"
        for row in np.flatnonzero(~good).tolist()
    }
    rows = np.flatnonzero(good)
    values, wrong = list_column(array.take(pa.array(rows)).flatten(), name, widths[1:], inner)
    bad |= {int(rows[at // width]): why for at, why in wrong.items()}
    out = np.zeros((count, width, *values.shape[1:]), values.dtype)
    out[rows] = values.reshape(len(rows), width, *values.shape[1:])
    return out, bad
