"""An HDF5 file made without its arrays in memory: HDF5 gives them their room, and they are put there as it is written.

HDF5 itself never writes to the disk: on a full one it crashes or leaves zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from app.storage.tree import Extent, Tree, lay_out_tree, shown

Sink: TypeAlias = Callable[[Any], None]  # takes a buffer, and is done with it when it returns

_PAGE = 4096


class Image:
    """The HDF5 file of a tree and the attributes of its root; `size` is in bytes.

    Raises TypeError with the place of a value that has no exact form in HDF5.
    """

    def __init__(self, tree: Tree, attributes: Mapping[str, str]) -> None:
        import h5py

        self._pages = _Pages()
        with h5py.File(_create(self._pages)) as file:
            for name, text in attributes.items():
                file.attrs[name] = text
            self._extents = lay_out_tree(file, tree)
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

    def stream(self, start: int, stop: int, sink: Sink) -> None:
        """Hand the bytes from start to stop to `sink`."""
        while start < stop:
            number, begin = divmod(start, _PAGE)
            end = min(_PAGE, begin + stop - start)
            sink(memoryview(self.pages.get(number, _ZEROS))[begin:end])
            start += end - begin


_ZEROS = bytes(_PAGE)
