"""What a stranger's HDF5 file may lead a reader to, found before it is followed: links, other files, absurd sizes.

Each finding is a DataError of one sentence. The crash and the endless loop that a damaged header may cause in HDF5
itself are found by app.storage.header_walk, which does all this first in a process of its own.
"""

from __future__ import annotations

import itertools
import math
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from app.errors import DataError

CHUNK_BYTES = 1 << 30  # one chunk, undone: it is held whole
ROW_BYTES = 1 << 30  # one sample
EXTENT_BYTES = 1 << 40  # a dataset larger than this must be in proportion to its file
GROWTH = 1100  # deflate makes at most 1032 bytes of one
SOFT_LINKS = 16
SOURCES = 100_000  # files that a pattern of a virtual dataset may stand for
PIECE = 1 << 16
DEFLATE, SHUFFLE, FLETCHER = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32
BLOSC, LZ4, BITSHUFFLE, ZSTD = 32001, 32004, 32008, 32015  # as registered with the HDF Group
START = 18  # bytes at the start of a chunk that say how large it is
CHECKSUM = 4  # bytes that FLETCHER adds


class Place(NamedTuple):
    """A hard link: the low-level group that holds it, and its name there."""

    group: Any
    name: bytes

    def open(self) -> Any:
        """The low-level object."""
        return h5py.h5o.open(self.group, self.name)


def reach(file: Path, handle: h5py.File, name: str) -> Place | None:
    """Where a name leads by links of this file alone; None where nothing has this name. Raises DataError.

    HDF5 itself would follow links into any file that this user may read.
    """
    group = root = h5py.h5g.open(handle.id, b"/")
    rest, place = _parts(name), Place(root, b".")
    softs: list[str] = []
    while rest:
        part, rest = rest[0], rest[1:]
        if not isinstance(group, h5py.h5g.GroupID) or b"\0" in part or not group.links.exists(part):
            if softs:
                raise DataError(f"{file}: {_link(name, 'soft')} to '{softs[-1]}', which is not there.{_COPY}")
            return None
        kind = group.links.get_info(part).type
        if kind == h5py.h5l.TYPE_SOFT:
            target = group.links.get_val(part).decode("utf-8", "replace")
            softs.append(target)
            if len(softs) > SOFT_LINKS:
                raise DataError(f"{file}: {_link(name, 'soft')} that leads to more than {SOFT_LINKS} others.{_COPY}")
            group = root if target.startswith("/") else group
            rest = _parts(target) + rest
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            other, inside = (text.decode("utf-8", "replace") for text in group.links.get_val(part))
            raise DataError(
                f"{file}: {_link(name, 'external')} to '{inside}' in the file {other}; links into other files are not"
                f" followed. What to try: name that file in [data] file, or copy the dataset into this one (h5copy)."
            )
        elif kind != h5py.h5l.TYPE_HARD:
            raise DataError(f"{file}: {_link(name, 'user-defined')} (type {kind}), which HDF5 cannot follow.{_COPY}")
        else:
            place = Place(group, part)
            group = place.open() if rest else group
    return place


def check_storage(file: Path, dataset: h5py.Dataset, name: str) -> None:
    """Refuse values kept in other files, and sizes that the file cannot hold or nobody can read. Raises DataError."""
    rules = dataset.id.get_create_plist()
    if rules.get_external_count():
        other = rules.get_external(0)[0].decode("utf-8", "replace")
        raise DataError(
            f"{file}: '{name}' keeps its values in another file ({other}), which is not read, since it may be any file"
            " of this machine. What to try: h5repack makes one file of both."
        )
    _check_sizes(file, dataset, name)


def _check_sizes(file: Path, dataset: h5py.Dataset, name: str) -> None:
    width = dataset.id.get_type().get_size()
    row, extent = math.prod(dataset.shape[1:]) * width, math.prod(dataset.shape) * width
    chunk = math.prod(dataset.chunks or (0,)) * width
    for what, found, most in (("a sample", row, ROW_BYTES), ("a chunk", chunk, CHUNK_BYTES)):
        if found > most:
            shape = dataset.shape[1:] if what == "a sample" else dataset.chunks
            raise DataError(
                f"{file}: {what} of '{name}' has {found:,} bytes (shape {_shape(shape)}), expected at most {most:,}."
                " What to try: smaller ones; if the file should have them it is damaged, copy it again."
            )
    size = file.stat().st_size
    if not dataset.is_virtual and extent > max(EXTENT_BYTES, GROWTH * size):
        raise DataError(
            f"{file}: '{name}' claims {extent:,} bytes (shape {_shape(dataset.shape)}), far more than a file of"
            f" {size:,} bytes can hold; it is damaged, or was never written. What to try: copy or make it again."
        )


def check_chunks(file: Path, dataset: h5py.Dataset, name: str) -> None:
    """Walk the index of the chunks of a dataset; each must lie in the file and be as large as it can be.

    Collective over: none. Raises DataError.
    """
    if dataset.chunks is None or dataset.is_virtual:
        return
    pipeline = filters(dataset)
    plain = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    shape, chunks, end = dataset.shape, dataset.chunks, file.stat().st_size
    total, count = chunk_count(dataset), 0

    def look(found: Any) -> str | None:
        nonlocal count
        count += 1
        if found.byte_offset is None or found.byte_offset + found.size > end:
            return f"lies behind the end of the file ({end:,} bytes)"
        if count > total:
            return "is one more than the shape needs"
        whole = all(at + c <= n for at, c, n in zip(found.chunk_offset, chunks, shape, strict=True))
        return wrong_size(found.size, found.filter_mask, pipeline, plain, whole)

    wrong = dataset.id.chunk_iter(look)
    if wrong:
        raise DataError(f"{file}: a chunk of '{name}' {wrong}; the file is damaged, copy or make it again.")


def filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    """The HDF5 filter codes of a dataset, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


def wrong_size(stored: int, mask: int, pipeline: Sequence[int], plain: int, whole: bool) -> str | None:
    """What is wrong with the size of a chunk in the file, where filters of known sizes decide it.

    mask: of the filters that were left out. plain: its bytes, undone. whole: it does not stick out of the shape; one
    that does may be stored without filters. Collective over: none.
    """
    applied = [code for number, code in enumerate(pipeline) if not mask >> number & 1]
    sums = CHECKSUM * applied.count(FLETCHER)
    if all(code in (SHUFFLE, FLETCHER) for code in applied):
        fits = stored == plain + sums or (stored == plain and not whole)
    else:  # filters store what does not get smaller with a little around
        fits = sums < stored <= plain + plain // 8 + PIECE
    return None if fits else f"has {stored:,} bytes stored, which does not go with its {plain:,}"


def sources(file: Path, dataset: h5py.Dataset, name: str) -> Iterator[tuple[Path, str]]:
    """The files and names from which a virtual dataset takes its rows, each once, checked to lie beside it or below.

    Collective over: none. Raises DataError.
    """
    if not dataset.is_virtual:
        return
    for other, inside in {(item.file_name, item.dset_name): None for item in dataset.virtual_sources()}:
        if "%" not in other.replace("%%", "") + inside.replace("%%", ""):
            yield _source(file, name, other.replace("%%", "%")), inside.replace("%%", "%")
            continue
        for number in range(SOURCES):  # HDF5 counts up to the first that is not there
            one = _numbered(other, number)
            if number and other != "." and not any(path.exists() for path in _candidates(file, one)):
                break
            found = _source(file, name, one)
            if not _has(found, _numbered(inside, number)):
                break
            yield found, _numbered(inside, number)
        else:
            raise DataError(f"{file}: the virtual dataset '{name}' takes rows from more than {SOURCES:,} files.")


def _source(file: Path, name: str, source: str) -> Path:
    """The file that HDF5 would open. Raises DataError: not there, outside of the folder, not a file."""
    if source == ".":
        return file
    title = f"{file}: the virtual dataset '{name}' takes rows from {source}"
    found = next((path for path in _candidates(file, source) if path.exists()), None)
    if found is None:
        raise DataError(f"{title}, which is not there.")
    if not any(found.resolve().is_relative_to(folder) for folder in _folders(file)):
        raise DataError(
            f"{title}, which is outside of its own folder and is not read. What to try: move the files into one"
            " folder, or name them in [data] file."
        )
    if not stat.S_ISREG(found.stat().st_mode):  # a named pipe would block for ever
        raise DataError(f"{title}, which is not a regular file.")
    return found


def _candidates(file: Path, source: str) -> list[Path]:
    """In the order in which HDF5 tries them; of an absolute path that is not there it takes the last word."""
    first = [Path(source)] if Path(source).is_absolute() else []
    last = Path(source).name if first else source
    return [*first, file.parent / last, file.resolve().parent / last]


def _folders(file: Path) -> tuple[Path, Path]:
    """That of the name by which a file is known, and that of the file itself when the name is a link."""
    return file.parent.resolve(), file.resolve().parent


def _numbered(pattern: str, number: int) -> str:
    return pattern.replace("%%", "\0").replace("%b", str(number)).replace("\0", "%")


def _has(file: Path, name: str) -> bool:
    try:
        with h5py.File(file, "r", locking="best-effort") as handle:
            return reach(file, handle, name) is not None
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{file}: is damaged and cannot be opened as HDF5 ({error}).") from error


class WrongSize(ValueError):
    """A chunk holds more or less than its shape says: HDF5 would fill the memory, or give what lay there before."""


def inflated(stored: bytes, size: int) -> bytes:
    """Undo deflate of a chunk of `size` bytes. Raises WrongSize, zlib.error."""
    machine = zlib.decompressobj()
    plain = machine.decompress(stored, size + 1)
    if len(plain) <= size and not machine.eof:
        raise zlib.error("the stream is cut short")
    _compare(len(plain), size)
    return plain


def check_inflated(stored: bytes, pipeline: Sequence[int], mask: int, size: int) -> None:
    """Whether HDF5, which undoes a chunk without looking, will make `size` bytes of it. Raises WrongSize."""
    at = pipeline.index(DEFLATE)
    if mask >> at & 1:
        return
    before, after = (
        {code for number, code in enumerate(pipeline) if way(number) and not mask >> number & 1}
        for way in (at.__gt__, at.__lt__)
    )
    if after - {FLETCHER}:
        raise WrongSize("a chunk is deflated and then stored by another filter, whose size cannot be foreseen")
    machine, rest, made = zlib.decompressobj(), stored, 0
    try:
        while rest and not machine.eof and made <= size:
            made += len(machine.decompress(rest, PIECE))
            rest = machine.unconsumed_tail
    except zlib.error:
        return  # HDF5 ends there as well, and says so
    if before <= {SHUFFLE} or made > size:
        _compare(made, size)


def check_declared(start: bytes, code: int, options: Sequence[int], size: int) -> None:
    """Whether a chunk says of itself that it holds `size` bytes, where its (last) filter writes that down.

    start: its first bytes in the file. Raises WrongSize.
    """
    if code == BLOSC:
        _compare(int.from_bytes(start[4:8], "little"), size)
    elif code == LZ4 or (code == BITSHUFFLE and len(options) > 4 and options[4]):
        _compare(int.from_bytes(start[:8], "big"), size)
    elif code == ZSTD:
        _compare(_size_of_zstd(start), size)


def _size_of_zstd(start: bytes) -> int:
    """The content size in a frame's header, -1 where there is none (RFC 8878, 3.1.1.1)."""
    if len(start) < 18 or start[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flag, single = start[4] >> 6, start[4] >> 5 & 1
    at = 5 + (not single) + (0, 1, 2, 4)[start[4] & 3]
    width = (single, 2, 4, 8)[flag]
    return int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0) if width else -1


def _compare(made: int, size: int) -> None:
    if made != size:
        other = f"more than {size:,}" if made > size else f"{made:,}" if made >= 0 else "it is not known how many"
        raise WrongSize(f"a chunk of {size:,} bytes holds {other}")


def chunk_count(dataset: h5py.Dataset) -> int:
    """Chunks that the shape needs."""
    return math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))


def chunk_places(
    shape: Sequence[int], chunks: Sequence[int], start: int, stop: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The chunks that hold rows start:stop: of each its number and its first indices."""
    first = start // chunks[0]
    axes = [range(first * chunks[0], stop, chunks[0])]
    axes += [range(0, n, c) for n, c in zip(shape[1:], chunks[1:], strict=True)]
    return enumerate(itertools.product(*axes), first * math.prod(map(len, axes[1:])))


_COPY = " What to try: name the dataset itself, or make the file again."


def _link(name: str, kind: str) -> str:
    return f"'{name}' is, or lies behind, {'an' if kind == 'external' else 'a'} {kind} link"


def _parts(name: str) -> list[bytes]:
    return [part.encode("utf-8", "surrogateescape") for part in name.split("/") if part not in ("", ".")]


def _shape(shape: Sequence[int] | None) -> str:
    return " x ".join(map(str, shape or ()))
