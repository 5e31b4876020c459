"""Reading the user's HDF5: one dataset whose axis 0 is the sample, read-only, each rank on its own.

Whole chunks of plain layouts (no filter, gzip, shuffle + gzip) are taken from the file as they lie and undone here,
because HDF5's own path copies more and holds h5py's lock while it inflates. Anything else goes through HDF5.
"""

import os
import zlib
from pathlib import Path

import h5py
import numpy as np

from app.errors import DataError
from app.report.log import escaped
from app.storage.opening import find_dataset, open_file, why
from app.storage.untrusted import (
    DEFLATE,
    SHUFFLE,
    START,
    WrongSize,
    check_declared,
    check_inflated,
    chunk_count,
    chunk_places,
    filters,
    inflated,
    wrong_size,
)

CACHE_BYTES = 16 * 2**20
CONTIGUOUS_BYTES = 2**20  # a block of a dataset without chunks
COUNTED_CHUNKS = 100_000  # counting the chunks of larger files would take seconds
MANY_CHUNKS = 1 << 24  # those behind them are looked at whenever they are read
PLAIN_PIPELINES = ((), (DEFLATE,), (SHUFFLE, DEFLATE))


class Rows:
    """One dataset of one open file; `length` samples of `shape` and `dtype` (native byte order).

    `block_rows` is the number of rows that can be read without undoing a chunk twice, `compressed` whether a partly
    read chunk costs as much as a whole one, `note` says what is wrong with the chunk layout. Collective over: none.
    """

    def __init__(self, file: Path, name: str, handle: h5py.File, dataset: h5py.Dataset) -> None:
        self.file, self.name = file, name
        self._handle, self._dataset = handle, dataset
        self.length: int = dataset.shape[0]
        self.shape: tuple[int, ...] = tuple(dataset.shape[1:])
        self.dtype = native(dataset.dtype)
        self.row_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.chunked = dataset.chunks is not None
        self._filters = filters(dataset)
        self.compressed = bool(self._filters)
        self.block_rows = dataset.chunks[0] if self.chunked else max(1, CONTIGUOUS_BYTES // max(1, self.row_bytes))
        self.note = " ".join(filter(None, (cut_note(file, name, dataset), missing_note(file, name, dataset)))) or None
        self._pipeline = plain_pipeline(dataset, self.dtype)
        last = dataset.id.get_create_plist().get_filter(len(self._filters) - 1) if self._filters else (0, 0, ())
        self._last_filter: tuple[int, tuple[int, ...]] = (last[0], last[2])
        self._foreseen = bytearray(min(chunk_count(dataset), MANY_CHUNKS) if self.chunked else 0)  # 1: looked at
        self._descriptor: int = handle.id.get_vfd_handle()
        self._size = os.fstat(self._descriptor).st_size
        self._space = dataset.id.get_space()
        self._memory_type = h5py.h5t.py_create(self.dtype)

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` (n, ...), contiguous and of the type `dtype`, with the rows start:start+n.

        Collective over: none. Raises DataError when the rows are not there or the file is damaged.
        """
        stop = start + len(out)
        if start < 0 or stop > self.length:
            raise DataError(
                f"{self.file}: samples {start} to {stop - 1} of '{self.name}' were asked for, it has {self.length}."
            )
        try:
            done = self._whole_chunks_into(start, out)
            if done < len(out):
                self._slab_into(start + done, out[done:])
            size = os.fstat(self._descriptor).st_size
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(
                f"{self.file}: samples {start} to {stop - 1} of '{self.name}' could not be read ({why(error)}); "
                "the file is damaged or was cut short, copy or make it again."
            ) from error
        if size < self._size:  # HDF5 reads zeros behind the end of a file
            raise DataError(f"{self.file}: was cut from {self._size} to {size} bytes while it was read; copy it again.")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._handle.close()

    def _slab_into(self, start: int, out: np.ndarray) -> None:
        """Read rows through HDF5; h5py's read_direct does the same with 100 us of Python a call."""
        if self.chunked:
            self._foresee(start, start + len(out))
        self._space.select_hyperslab((start,) + (0,) * len(self.shape), out.shape)
        self._dataset.id.read(h5py.h5s.create_simple(out.shape), self._space, out, self._memory_type)

    def _foresee(self, start: int, stop: int) -> None:
        """Look at each chunk once before HDF5 undoes it, into whatever size: into more memory, or into too little."""
        shape, chunks = self._dataset.shape, self._dataset.chunks
        size = int(np.prod(chunks, dtype=np.int64)) * self._dataset.id.get_type().get_size()
        for number, place in chunk_places(shape, chunks, start, stop):
            known = number < len(self._foreseen)
            if known and self._foreseen[number]:
                continue
            found = self._dataset.id.get_chunk_info_by_coord(place)
            if found.byte_offset is not None:
                whole = all(at + c <= n for at, c, n in zip(place, chunks, shape, strict=True))
                wrong = wrong_size(found.size, found.filter_mask, self._filters, size, whole)
                if wrong:
                    raise WrongSize(f"a chunk {wrong}")
                if DEFLATE in self._filters:
                    mask, stored = self._dataset.id.read_direct_chunk(place)
                    check_inflated(stored, self._filters, mask, size)
                elif self._filters and not found.filter_mask and set(self._filters[:-1]) <= {SHUFFLE}:
                    begin = os.pread(self._descriptor, START, found.byte_offset)
                    check_declared(begin, *self._last_filter, size)
            if known:
                self._foreseen[number] = 1

    def _whole_chunks_into(self, start: int, out: np.ndarray) -> int:
        """Read the leading whole chunks past HDF5's filters; the number of rows done, the rest is HDF5's."""
        rows = self.block_rows
        if self._pipeline is None or start % rows:
            return 0
        flat = out.reshape(-1).view(np.uint8)
        size = rows * self.row_bytes
        done = 0
        while done + rows <= len(out):
            at = done * self.row_bytes
            if not self._chunk_into(start + done, flat[at : at + size]):
                break  # HDF5 reads it again and says what is wrong, or fills in a chunk that was never written
            done += rows
        return done

    def _chunk_into(self, row: int, out: np.ndarray) -> bool:
        """Read and undo one chunk into the bytes `out`; False when that did not work."""
        offsets = (row,) + (0,) * len(self.shape)
        try:
            if not self._pipeline:
                mask, stored = self._dataset.id.read_direct_chunk(offsets, out=out)
                return mask == 0 and len(stored) == len(out)
            mask, stored = self._dataset.id.read_direct_chunk(offsets)
            if mask != 0:
                return False
            plain = np.frombuffer(inflated(stored, len(out)), np.uint8)
        except WrongSize:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, zlib.error):
            return False
        if len(plain) != len(out):
            return False
        if SHUFFLE in self._pipeline:
            out.reshape(-1, self.dtype.itemsize)[...] = plain.reshape(self.dtype.itemsize, -1).T
        else:
            out[...] = plain
        return True


def open_rows(file: Path, dataset: str, *, cache_bytes: int = CACHE_BYTES) -> Rows:
    """Open one dataset of one file for reading; `cache_bytes` bounds HDF5's cache of undone chunks for it.

    Collective over: none. Raises DataError: no such file, not HDF5, truncated, no such dataset (nearest names), a
    group, empty, a scalar, not numbers, a filter that is not installed, a virtual dataset whose sources are missing or
    elsewhere, links and values in other files, sizes beyond the file's or the caps of storage.untrusted. A file of a
    stranger may crash HDF5 all the same: header_walk.check_data finds that first, in another process.
    """
    handle = None
    try:
        handle = open_file(Path(file))
        return Rows(Path(file), dataset, handle, find_dataset(Path(file), handle, dataset, cache_bytes))
    except BaseException as error:
        if handle is not None:
            handle.close()
        if isinstance(error, DataError):  # names in a file may move the cursor
            raise DataError(*map(escaped, error.problems)) from error.__cause__
        raise


def native(dtype: np.dtype) -> np.dtype:
    """The type rows are delivered in: native byte order, at most 8 bytes a number."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def plain_pipeline(dataset: h5py.Dataset, dtype: np.dtype) -> tuple[int, ...] | None:
    """The filters to undo here, or None when only HDF5 can read this dataset."""
    if dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:] or dtype.kind not in "iuf":
        return None
    stored_as_in_memory = dataset.id.get_type().equal(h5py.h5t.py_create(dtype))
    pipeline = filters(dataset)
    return pipeline if stored_as_in_memory and pipeline in PLAIN_PIPELINES else None


def cut_note(file: Path, name: str, dataset: h5py.Dataset) -> str | None:
    """What to do about chunks that cut through samples."""
    if dataset.chunks is None or dataset.chunks[1:] == dataset.shape[1:]:
        return None
    rows = max(1, CONTIGUOUS_BYTES // max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize))
    wanted = (min(rows, 64, dataset.shape[0]),) + tuple(dataset.shape[1:])
    return (
        f"{file}: the chunks {dataset.chunks} of '{name}' cut through samples of shape {tuple(dataset.shape[1:])}, "
        f"which makes reading many times slower; write it again with create_dataset(..., chunks={wanted})."
    )


def missing_note(file: Path, name: str, dataset: h5py.Dataset) -> str | None:
    """Whether chunks were never written: HDF5 delivers them silently as the fill value."""
    if dataset.is_virtual:
        return None
    if dataset.chunks is None:
        unwritten, total = int(dataset.id.get_storage_size() == 0), 1
    else:
        total = chunk_count(dataset)
        unwritten = total - dataset.id.get_num_chunks() if total <= COUNTED_CHUNKS else 0
    if not unwritten:
        return None
    fill = dataset.fillvalue
    counted = f"{unwritten} of {total} chunks of '{name}'"
    return f"{file}: {counted} were never written and read as {fill}; was the writer stopped?"
