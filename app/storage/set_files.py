"""Writing the HDF5 of a set: its part files, and the finished file that joins them.

The chunks of a column hold as many samples in every part file as in the finished one, and all part files but the last
hold whole chunks alone, so that joining copies chunks as they are, compressed or not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from app.errors import MachineError
from app.storage import atomic_write

CREATOR, KIND = "phalanx", "dataset"
PART_BYTES = 64 << 20
NARROW_ROWS, NARROW_FACTOR = 1024, 16  # samples a chunk, at most: so many, or so many times those of the widest column
ATTRIBUTE_BYTES = 16 << 10  # HDF5 takes no more than 64 KiB of a header
CONSTANTS, BAD = "constants", "bad"
_ERROR_NUMBER = re.compile(r"errno = (\d+)")
COMPRESSIONS = ("none", "gzip", "lzf", "blosc")


class Stored(NamedTuple):
    """A column as it is stored: of a sample the type and shape; samples a chunk."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    chunk: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Layout(NamedTuple):
    """How a set of `samples` is stored; `rows` of them in a part file."""

    columns: tuple[Stored, ...]
    samples: int
    rows: int
    compression: str

    @property
    def parts(self) -> int:
        """Number of part files."""
        return -(-self.samples // self.rows)


def layout(
    columns: Sequence[tuple[str, np.dtype, tuple[int, ...]]], samples: int, chunk_bytes: int, compression: str
) -> Layout:
    """Chunks of about so many bytes and part files of about 64 MiB, each of 2^n samples; the same on any grid.

    Chunks of narrow columns are smaller, or a reader of wide ones that holds few samples would undo them many times.
    """
    sizes = [max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize) for _, dtype, shape in columns]
    rows = _power(PART_BYTES // sum(sizes))
    most = max(NARROW_ROWS, NARROW_FACTOR * _power(chunk_bytes // max(sizes)))
    stored = tuple(
        Stored(name, dtype, tuple(shape), min(rows, samples, most, _power(chunk_bytes // size)))
        for (name, dtype, shape), size in zip(columns, sizes, strict=True)
    )
    return Layout(stored, samples, rows, compression)


def write_part(
    path: Path, found: Layout, number: int, columns: Mapping[str, np.ndarray], attributes: Mapping[str, str]
) -> None:
    """The part file with this number, from the arrays (n, ...) of its samples; whole or not at all.

    Collective over: none. Raises MachineError.
    """

    def fill(file: h5py.File) -> None:
        for column in found.columns:
            values = columns[column.name]
            dataset = _create(file, column, len(values), found.compression, grows=True)
            if values.size:
                dataset[...] = values
        file.attrs.update({"creator": CREATOR, "kind": "dataset-part", "part": number, **attributes})

    small_file(path, fill)


def part_attribute(path: Path, name: str) -> str | None:
    """A text that a part file carries; None: it is not there, or no part file. Collective over: none."""
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get(name)
    except (OSError, RuntimeError, ValueError, KeyError):
        return None
    return found if isinstance(found, str) else None


def join_chunks(file: h5py.File, found: Layout, parts: Sequence[Path], done: Callable[[int], object]) -> None:
    """All samples as contiguous datasets, the chunks copied part by part; done: told the number of each part.

    Collective over: none.
    """
    for column in found.columns:
        _create(file, column, found.samples, found.compression)
    for number, path in enumerate(parts):
        with h5py.File(path, "r") as part:
            for column in found.columns:
                _copy(part[column.name], file[column.name], number * found.rows, column.chunk)
        done(number)


def join_virtual(file: h5py.File, found: Layout, parts: Sequence[Path]) -> None:
    """All samples as virtual datasets over the part files, named relative to the file. Collective over: none."""
    folder = Path(file.filename).parent
    for column in found.columns:
        virtual = h5py.VirtualLayout((found.samples, *column.shape), column.dtype)
        for number, path in enumerate(parts):
            start = number * found.rows
            stop = min(start + found.rows, found.samples)
            name = str(path.relative_to(folder)).replace("%", "%%")
            virtual[start:stop] = h5py.VirtualSource(name, column.name, (stop - start, *column.shape), column.dtype)
        file.create_virtual_dataset(column.name, virtual)


def join_parallel(file: h5py.File, found: Layout, parts: Sequence[Path], rank: int, ranks: int) -> None:
    """As `join_chunks`, but all ranks write at once; for a file that they opened together, without compression.

    Collective over: the ranks that opened the file.
    """
    for column in found.columns:
        _create(file, column, found.samples, "none")
    for first in range(0, len(parts), ranks):
        number = first + rank
        with contextlib.ExitStack() as opened:
            part = opened.enter_context(h5py.File(parts[number], "r")) if number < len(parts) else None
            for column in found.columns:
                dataset = file[column.name]
                start = number * found.rows if part is not None else 0
                stop = min(start + found.rows, found.samples) if part is not None else 0
                values = part[column.name][()] if part is not None else np.empty((0, *column.shape), column.dtype)
                with dataset.collective:  # a rank without a part takes part with no samples
                    dataset[start:stop] = values


def describe(file: h5py.File, attributes: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Attributes of the root and of the columns; lists as JSON, arrays that are large in the group `constants`."""
    for name, value in attributes.items():
        file.attrs[name] = json.dumps(value) if isinstance(value, list | dict) else value
    for column, found in columns.items():
        for name, value in found.items():
            if isinstance(value, np.ndarray) and value.nbytes > ATTRIBUTE_BYTES:
                place = f"{CONSTANTS}/{column}/{name}"
                file[place] = value
                file[column].attrs[name] = f"in the dataset {place}"
            elif isinstance(value, np.ndarray):
                file[column].attrs[name] = value
            else:
                file[column].attrs[name] = json.dumps(value)


def list_bad(file: h5py.File, files: Sequence[str], rows: Sequence[int], reasons: Sequence[str]) -> None:
    """The records that could not be used."""
    group = file.create_group(BAD)
    group["row"] = np.asarray(rows, np.int64)
    for name, texts in (("file", files), ("why", reasons)):
        group.create_dataset(name, data=[text.replace("\0", " ") for text in texts], dtype=h5py.string_dtype())


def small_file(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """An HDF5 file that is made in memory and then written whole or not at all. Collective over: none.

    Raises MachineError.
    """
    atomic_write.make_folder(path.parent)
    with h5py.File(path, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    atomic_write.replace(path, [image])


def whole_file(path: Path, fill: Callable[[h5py.File], None], size: int) -> None:
    """An HDF5 file of any size that is written whole or not at all. size: its bytes, about.

    Collective over: none. Raises MachineError.
    """
    atomic_write.make_folder(path.parent)
    temporary = temporary_name(path)
    atomic_write.clean_leftovers(path.parent, path.name)
    with written(path, temporary, size):
        _reserve(temporary, size)
        with h5py.File(temporary, "w") as file:
            fill(file)
        _put_in_place(temporary, path)


def _reserve(temporary: Path, size: int) -> None:
    """Learn of a full disk now: HDF5 can neither write nor close a file when it meets one. Raises OSError."""
    atomic_write.make_empty(temporary)
    if size and hasattr(os, "posix_fallocate"):
        descriptor = os.open(temporary, os.O_WRONLY)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # not every file system can
                raise
        finally:
            os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Under which a file is written before it gets its own."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def open_together(temporary: Path, comm: Any) -> h5py.File:
    """A new file that all ranks of an MPI communicator write to; only where `parallel_hdf5`. Collective over: comm."""
    return h5py.File(temporary, "w", driver="mpio", comm=comm)


def finish(path: Path, temporary: Path, fill: Callable[[h5py.File], None]) -> None:
    """Add to a file that is written, and give it its name. Collective over: none. Raises MachineError."""
    with written(path, temporary):
        with h5py.File(temporary, "r+") as file:
            fill(file)
        _put_in_place(temporary, path)


def _put_in_place(temporary: Path, path: Path) -> None:
    """In a way that survives a power cut."""
    os.chmod(temporary, atomic_write.FILE_MODE)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    atomic_write.sync_folder(path.parent)


@contextlib.contextmanager
def written(path: Path, temporary: Path | None, size: int = 0) -> Iterator[None]:
    """Around writing: nothing of the temporary file is left when that fails; why it did is told as the machine's."""
    try:
        yield
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        number = _error_number(error)
        if number is None:
            raise
        raise MachineError(atomic_write.explain(OSError(number, os.strerror(number)), path, size)) from error


def _error_number(error: BaseException) -> int | None:
    """The system's reason, which HDF5 puts in words."""
    if not isinstance(error, OSError | RuntimeError):
        return None
    found = _ERROR_NUMBER.search(str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def finished(path: Path, made_of: str, counts: Sequence[str]) -> dict[str, int] | None:
    """The whole numbers that a set says of itself, where there is one that was made of the same; else None.

    Collective over: none.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("creator") != CREATOR or file.attrs.get("made_of") != made_of:
                return None
            datasets = [one for one in file.values() if isinstance(one, h5py.Dataset) and one.is_virtual]
            sources = {source.file_name for one in datasets for source in one.virtual_sources()}
            if not all((path.parent / source.replace("%%", "%")).is_file() for source in sources):
                return None
            return {name: int(file.attrs[name]) for name in counts}
    except (OSError, RuntimeError, ValueError, KeyError):
        return None


def is_set(path: Path) -> bool:
    """Whether a file is a set, or a part of one, that a preprocess phase wrote. Collective over: none."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    return part_attribute(path, "creator") == CREATOR and (part_attribute(path, "kind") or "").startswith(KIND)


def clear_set(path: Path) -> list[Path]:
    """Delete a set and its part files, where they are ours; what was deleted. Raises OSError."""
    parts = path.with_suffix("")
    found = [one for one in (path, *sorted(parts.glob("part-*.h5"))) if is_set(one)]
    clear_parts(found)
    atomic_write.clean_leftovers(parts)
    with contextlib.suppress(OSError):
        parts.rmdir()
    return found


def clear_parts(files: Sequence[Path]) -> None:
    """Delete files, and their folders where those are empty then. Raises OSError."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        with contextlib.suppress(OSError):
            folder.rmdir()


def parallel_hdf5() -> bool:
    """Whether h5py was built with MPI."""
    return bool(h5py.get_config().mpi)


def _create(file: h5py.File, column: Stored, count: int, compression: str, grows: bool = False) -> h5py.Dataset:
    chunk = max(1, column.chunk)
    # A part file may hold less than a chunk, which HDF5 takes of what may grow alone.
    limit = (max(count, chunk), *column.shape) if grows and count < chunk else None
    if 0 in column.shape:
        return file.create_dataset(column.name, (count, *column.shape), column.dtype)
    return file.create_dataset(
        column.name,
        (count, *column.shape),
        column.dtype,
        chunks=(chunk, *column.shape),
        maxshape=limit,
        **_filters(compression),
    )


def _filters(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "blosc":
        import hdf5plugin

        return dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))
    return {"compression": compression, "shuffle": True} | ({"compression_opts": 4} if compression == "gzip" else {})


def _copy(source: h5py.Dataset, target: h5py.Dataset, start: int, chunk: int) -> None:
    """Whole chunks as they lie in the file."""
    if source.chunks is None:
        return
    rest = (0,) * (source.ndim - 1)
    for row in range(0, source.shape[0], max(1, chunk)):
        mask, stored = source.id.read_direct_chunk((row, *rest))
        target.id.write_direct_chunk((start + row, *rest), stored, mask)


def _power(number: int) -> int:
    """The greatest power of two that is no greater; 1 for what is less."""
    return 1 << (max(1, number).bit_length() - 1)
