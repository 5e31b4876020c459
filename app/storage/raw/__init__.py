"""Raw files in any known format as pieces of records: HDF5, netCDF-4, NumPy, CSV, Parquet, images.

Every rank may read other pieces of a file at the same time. The readers of a format are loaded when one of its files is
met.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import DataError
from app.report.log import escaped
from app.storage.raw.records import Bad, Piece, Records


class Format(NamedTuple):
    """words: for messages. reader: the module that has `pieces` and `read`."""

    words: str
    reader: str
    suffixes: tuple[str, ...]


IMAGES = "images"
FORMATS = {
    "hdf5": Format("HDF5", "hdf5", (".h5", ".hdf5", ".he5")),
    "netcdf": Format("netCDF-4", "hdf5", (".nc", ".nc4")),
    "numpy": Format("NumPy", "arrays", (".npz", ".npy")),
    "csv": Format("CSV", "csv_tables", (".csv", ".tsv", ".csv.gz", ".tsv.gz")),
    "parquet": Format("Parquet", "parquet", (".parquet", ".pq")),
    IMAGES: Format("images", "images", (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")),
}

CHECKED = {
    "hdf5": "hdf5",
    "parquet": "parquet_check",
}  # whose libraries a damaged file may crash: the module with `check`


def formats() -> str:
    """The formats and their suffixes, for messages."""
    return ", ".join(f"{found.words} ({' '.join(found.suffixes)})" for found in FORMATS.values())


def pieces(files: Sequence[Path], piece_bytes: int) -> list[Piece]:
    """All records of raw files, and of folders of images, in order, in pieces of about so many bytes in memory.

    Looks at headers and sizes alone; of HDF5 and Parquet in a process of its own, so that one rank should call it.
    Collective over: none (rank 0). Raises DataError: unknown suffix, missing, damaged, not what its suffix says, ...
    """
    try:
        return list(_pieces([Path(file) for file in files], piece_bytes))
    except DataError as error:  # names in a file may move the cursor
        raise DataError(*map(escaped, error.problems)) from error.__cause__


def read(piece: Piece, columns: Collection[str] | None = None) -> Records:
    """The records of a piece; of the columns those named, None: all. A name that the file does not have is left out.

    Collective over: none. Raises DataError: the file has changed, or cannot be read; a name is no column.
    """
    try:
        return _reader(piece.format.split(":")[0]).read(piece, columns)
    except DataError as error:
        raise DataError(*map(escaped, error.problems)) from error.__cause__


def _pieces(files: Sequence[Path], piece_bytes: int) -> Iterator[Piece]:
    forms = [_form(file) for file in files]
    for reader, checker in CHECKED.items():
        found = [file for file, form in zip(files, forms, strict=True) if FORMATS[form].reader == reader]
        if found:
            importlib.import_module(f"app.storage.raw.{checker}").check(found)
    for (form, folder), group in itertools.groupby(
        zip(forms, files, strict=True), key=lambda pair: (pair[0], _home(pair[1]) if pair[0] == IMAGES else None)
    ):
        found = [file for _, file in group]
        if folder is not None:
            yield from _pieces_of_images(found, piece_bytes)
        else:
            for file in found:
                yield from _reader(form).pieces(file, form, piece_bytes)


def _pieces_of_images(files: Sequence[Path], piece_bytes: int) -> Iterator[Piece]:
    """Files whose folders lie in one folder, and folders."""
    for is_folder, group in itertools.groupby(files, key=Path.is_dir):
        found = list(group)
        if not is_folder:
            yield from _reader(IMAGES).pieces_of_files(found, piece_bytes)
        else:
            for folder in found:
                yield from _reader(IMAGES).pieces(folder, IMAGES, piece_bytes)


def _home(file: Path) -> Path:
    return file.parent if file.is_dir() else file.parent.parent


def _form(file: Path) -> str:
    if file.is_dir():
        return IMAGES
    for form, found in FORMATS.items():
        if file.name.lower().endswith(found.suffixes):
            return form
    raise DataError(f"{file}: its suffix '{file.suffix}' is of no format that is read; known are {formats()}.")


def _reader(form: str) -> Any:
    return importlib.import_module(f"app.storage.raw.{FORMATS[form].reader}")


__all__ = ["Bad", "Piece", "Records", "formats", "pieces", "read"]
