"""What netCDF-4 adds to HDF5: values that are missing, values packed into whole numbers, dimensions, characters.

After the CF conventions 1.11, sections 2.5.1 (missing data) and 8.1 (packed data).
"""

from __future__ import annotations

from typing import NamedTuple

import h5py
import numpy as np

from app.errors import DataError
from app.storage.raw.records import Stamp

FORMAT = "netcdf"
ONLY_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"
MOST_VALUES = 64  # of an attribute


class Packing(NamedTuple):
    """How the numbers of a variable are to be read; None and () where it does not say."""

    missing: tuple[np.generic, ...]
    scale: np.generic | None
    offset: np.generic | None
    unsigned: bool


def check(file: Stamp) -> None:
    """Raises DataError for the formats of older netCDF, which HDF5 does not read. Collective over: none."""
    try:
        with file.file.open("rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise DataError(f"{file.file}: cannot be read ({error.strerror}).") from error
    if start[:3] == b"CDF":
        raise DataError(
            f"{file.file}: is a file of netCDF-3, expected netCDF-4. What to try: nccopy -k nc4 {file.file.name} NEW.nc"
        )


def is_only_dimension(dataset: h5py.Dataset) -> bool:
    """Whether a dataset stands for a dimension that has a length and no values."""
    found = _attribute(dataset, "NAME", "SO")
    text = found.encode() if isinstance(found, str) else found
    return isinstance(text, bytes) and text.startswith(ONLY_DIMENSION)


def is_characters(dataset: h5py.Dataset) -> bool:
    """Whether the last of two axes counts the characters of a text."""
    return dataset.dtype == np.dtype("S1") and len(dataset.shape) == 2


def joined(characters: np.ndarray) -> np.ndarray:
    """(n, length) characters as (n,) texts."""
    return np.ascontiguousarray(characters).view(f"S{characters.shape[1]}")[:, 0]


def packing(dataset: h5py.Dataset) -> Packing:
    """What the attributes of a variable say."""
    missing: list[np.generic] = []
    for name in ("_FillValue", "missing_value"):
        found = _attribute(dataset, name, "iuf")
        missing += [] if found is None else list(np.asarray(found).reshape(-1))
    scale, offset = (_attribute(dataset, name, "iuf") for name in ("scale_factor", "add_offset"))
    unsigned = _attribute(dataset, "_Unsigned", "SO")
    return Packing(tuple(missing), _single(scale), _single(offset), unsigned in ("true", b"true"))


def unpacked(values: np.ndarray, how: Packing) -> np.ndarray:
    """The numbers that are meant. Whole ones become float64 where one is missing, or where they were packed."""
    absent = np.zeros(values.shape, bool)
    for mark in how.missing:
        absent |= np.isnan(values) if mark != mark else values == _like(mark, values.dtype)
    if how.unsigned and values.dtype.kind == "i":
        values = values.view(values.dtype.str.replace("i", "u"))
    if how.scale is not None or how.offset is not None:
        marks = [mark.dtype for mark in (how.scale, how.offset) if mark is not None]
        values = values.astype(np.result_type(values.dtype, *marks, np.float32))
        values *= 1 if how.scale is None else how.scale
        values += 0 if how.offset is None else how.offset
    if absent.any():
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        values[absent] = np.nan
    return values


def _like(mark: np.generic, dtype: np.dtype) -> np.generic:
    """A mark as the values have it, float32 say; itself where they cannot have it."""
    with np.errstate(all="ignore"):
        cast = mark.astype(dtype)
        return cast if dtype.kind == "f" or cast == mark else mark


def _single(value: object) -> np.generic | None:
    found = np.asarray(value) if value is not None else np.empty(0)
    return found.reshape(-1)[0] if found.size == 1 else None


def _attribute(dataset: h5py.Dataset, name: str, kinds: str) -> object:
    """A small attribute of these kinds of types, else None; a stranger may have put anything there."""
    if name not in dataset.attrs:
        return None
    try:
        attribute = dataset.attrs.get_id(name)
        if attribute.dtype.kind not in kinds or np.prod(attribute.shape, dtype=np.float64) > MOST_VALUES:
            return None
        return dataset.attrs[name]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None
