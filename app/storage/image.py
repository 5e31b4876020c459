"""An HDF5 file made without its arrays in memory: HDF5 gives them their room, and they are put there as it is written.

HDF5 itself never writes to the disk: on a full one it crashes or leaves zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from app.storage.tree import Extent, Item, Tree, items_of, lay_out, refilled, shown

Sink: TypeAlias = Callable[[Any], None]  # takes a buffer, and is done with it when it returns

_PAGE = 4096


class Image:
    """The HDF5 file of a tree and the attributes of its root; `size` is in bytes.

    like: an image that is not needed any more; where it differs in values alone, what HDF5 has laid out is used again,
    which takes a tenth of the time. Raises TypeError with the place of a value that has no exact form in HDF5.
    """

    def __init__(self, tree: Tree, attributes: Mapping[str, str], like: Image | None = None) -> None:
        items = items_of(tree)
        self._pages: _Pages
        self._extents: list[Extent]
        self._form, self._attributes = [item.form for item in items], dict(attributes)
        if like is not None and self._form == like._form and like._pages.replace_texts_(like._attributes, attributes):
            self._pages, self._extents = like._pages, refilled(like._extents, items)
        else:
            self._pages, self._extents = _laid_out(items, attributes)
        self.size = self._pages.size

    def stream(self, sink: Sink) -> None:
        """Hand all bytes to `sink` from the first to the last; arrays are asked for in the order of the tree.

        Raises TypeError when what a Later gives is not what it said.
        """
        place = asked = 0
        ahead: dict[int, np.ndarray] = {}
        # HDF5 may put a small array into a gap it left earlier: those before it in the tree then wait in `ahead`.
        for number in sorted(range(len(self._extents)), key=lambda n: self._extents[n].offset):
            while asked <= number:
                ahead[asked] = _content(self._extents[asked])
                asked += 1
            extent = self._extents[number]
            self._pages.stream(place, extent.offset, sink)
            sink(ahead.pop(number).data)
            place = extent.offset + extent.bytes
        self._pages.stream(place, self.size, sink)


def _laid_out(items: Sequence[Item], attributes: Mapping[str, str]) -> tuple[_Pages, list[Extent]]:
    import h5py

    pages = _Pages()
    with h5py.File(_create(pages)) as file:
        for name, text in attributes.items():
            file.attrs[name] = text
        extents = lay_out(file, items)
    return pages, extents


def _content(extent: Extent) -> np.ndarray:
    """The values of a dataset as bytes."""
    try:
        return extent.content().reshape(-1).view(np.uint8)
    except TypeError as error:
        raise TypeError(f"{shown(extent.place)}: {error}") from None


def _create(target: _Pages) -> Any:
    """A new HDF5 file in a file object; in a function, as the settings must not outlive the file: h5py crashes."""
    from h5py import h5f, h5fd, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, target)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    rules = h5p.create(h5p.FILE_CREATE)
    rules.set_obj_track_times(False)
    rules.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    return h5f.create(b"phalanx", h5f.ACC_TRUNC, rules, access)


class _Pages:
    """A file object in memory; where nothing was written there are zeros, which take no memory."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = self.place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        count = len(rest)
        while rest:
            number, begin = divmod(self.place, _PAGE)
            part = rest[: _PAGE - begin]
            if number not in self.pages:
                self.pages[number] = bytearray(_PAGE)
            self.pages[number][begin : begin + len(part)] = part
            self.place += len(part)
            rest = rest[len(part) :]
        self.size = max(self.size, self.place)
        return count

    def readinto(self, target: Any) -> int:
        rest = memoryview(target)

        def take(part: Any) -> None:
            nonlocal rest
            rest[: len(part)] = part
            rest = rest[len(part) :]

        self.stream(self.place, self.place + len(rest), take)
        return len(target)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        pass

    def replace_texts_(self, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
        """Put texts in the place of others that are as long; False, and all as it was, where that cannot be done."""
        pairs = [(before.get(name, "").encode(), text.encode()) for name, text in now.items()]
        changes = [(old, new) for old, new in pairs if old != new]
        if before.keys() != now.keys() or any(len(old) != len(new) for old, new in changes):
            return False
        found = [self._find(old) for old, _ in changes]
        if any(len(places) != 1 for places in found):
            return False
        for (place,), (_, new) in zip(found, changes, strict=True):
            self.seek(place)
            self.write(new)
        return True

    def _find(self, text: bytes) -> list[int]:
        """Where a text stands."""
        found = []
        for number, page in self.pages.items():
            rest = self.pages.get(number + 1, b"")[: len(text) - 1]
            start = (page + rest).find(text)
            while start >= 0:
                found.append(number * _PAGE + start)
                start = (page + rest).find(text, start + 1)
        return found

    def stream(self, start: int, stop: int, sink: Sink) -> None:
        """Hand the bytes from start to stop to `sink`."""
        while start < stop:
            number, begin = divmod(start, _PAGE)
            end = min(_PAGE, begin + stop - start)
            sink(memoryview(self.pages.get(number, _ZEROS))[begin:end])
            start += end - begin


_ZEROS = bytes(_PAGE)
