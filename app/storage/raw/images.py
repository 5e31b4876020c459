"""Images: all below a folder, sorted by name, or those of a folder that are named. All have one size and one mode.

The size and the mode are those that most of the first 64 have; another image is a bad record, as is one that cannot be
decoded. Palettes become colours, 16 bits of grey stay 16 bits.
"""

from __future__ import annotations

import functools
import os
import stat
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from app.errors import DataError
from app.storage.raw.records import Piece, Records, assembled, chosen, cut, stamp, texts

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
CODECS = ("PNG", "JPEG", "BMP", "TIFF", "GIF")  # no other of Pillow's, some of which start programs
FOLDER = "images"
NAMED, NAMED_BELOW = "images:", "images:*/"  # in a folder, or in its sub-folders; the suffixes follow
FIRST = 64
PIXELS = 64 << 20  # of an image: more is taken for one made to fill the memory
COLUMNS = ("images", "names", "classes")
KEPT = {"L": (1, "u1"), "LA": (2, "u1"), "RGB": (3, "u1"), "RGBA": (4, "u1"), "I": (1, "i4"), "F": (1, "f4")}


class Kind(NamedTuple):
    """What images are once they are decoded."""

    width: int
    height: int
    mode: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""
        channels = KEPT.get(self.mode, (1, ""))[0]
        return (self.height, self.width) + ((channels,) if channels > 1 else ())

    @property
    def dtype(self) -> np.dtype:
        """Of a number."""
        return np.dtype(KEPT.get(self.mode, (1, "u2"))[1])

    def __str__(self) -> str:
        return f"{self.width} x {self.height} {self.mode}"


class Listing(NamedTuple):
    """Images by their path below a folder, "/" between its parts."""

    folder: Path
    names: tuple[str, ...]
    kind: Kind


def pieces(folder: Path, form: str, piece_bytes: int) -> list[Piece]:
    """Of all images below a folder. Collective over: none. Raises DataError."""
    _listing.cache_clear()
    found = _listing(folder, form)
    return cut(folder, form, len(found.names), piece_bytes // _bytes_of(found.kind))


def pieces_of_files(files: Sequence[Path], piece_bytes: int) -> list[Piece]:
    """Of images that are named, in one folder or in folders of one. Collective over: none. Raises DataError."""
    for file in files:
        stamp(file)
    below = len({file.parent for file in files}) > 1
    folder = files[0].parent.parent if below else files[0].parent
    form = (NAMED_BELOW if below else NAMED) + " ".join(sorted({file.suffix.lower() for file in files}))
    _listing.cache_clear()
    found = _listing(folder, form)
    places = {name: place for place, name in enumerate(found.names)}
    at = [places[file.relative_to(folder).as_posix()] for file in files]
    runs: list[Piece] = []
    rows = max(1, piece_bytes // _bytes_of(found.kind))
    for place in at:
        last = runs[-1] if runs else None
        if last is not None and last.stop == place and last.stop - last.start < rows:
            runs[-1] = last._replace(stop=place + 1)
        else:
            runs.append(Piece(folder, form, place, place + 1))
    return runs


def read(piece: Piece, columns: Collection[str] | None) -> Records:
    """Collective over: none. Raises DataError."""
    found = _listing(piece.file, piece.format)
    if piece.stop > len(found.names):
        raise DataError(f"{piece.file}: has changed: {len(found.names):,} images, {piece.stop:,} were expected.")
    names = found.names[piece.start : piece.stop]
    has_classes = any("/" in name for name in found.names)
    wanted = chosen(piece.file, COLUMNS if has_classes else COLUMNS[:2], {}, columns)
    images = np.zeros((len(names), *found.kind.shape), found.kind.dtype)
    bad: dict[int, str] = {}
    for row, name in enumerate(names):
        wrong = _decode(found, name, piece.format == FOLDER, images[row])
        if wrong is not None:
            bad[row] = f"{name} {wrong}"
    values = {
        "images": images,
        "names": texts(names),
        "classes": texts([name.split("/")[0] if "/" in name else "" for name in names]),
    }
    return assembled({name: values[name] for name in wanted}, len(names), bad)


def _bytes_of(kind: Kind) -> int:
    return max(1, int(np.prod(kind.shape)) * kind.dtype.itemsize)


@functools.lru_cache(maxsize=64)
def _listing(folder: Path, form: str) -> Listing:
    suffixes = SUFFIXES if form == FOLDER else tuple(form.removeprefix(NAMED).removeprefix("*/").split())
    names = tuple(_below(folder, suffixes) if form == FOLDER else _in(folder, suffixes, form.startswith(NAMED_BELOW)))
    if not names:
        raise DataError(
            f"{folder}: is a folder without images ({', '.join(SUFFIXES)}). What to try: for files of another format"
            f" {folder.name}/* in its place."
        )
    kinds = Counter(kind for name in names[:FIRST] if isinstance(kind := _kind_of(folder, name, form == FOLDER), Kind))
    if not kinds:
        why = _kind_of(folder, names[0], form == FOLDER)
        raise DataError(f"{folder}: none of the first images can be used; {names[0]} {why}.")
    return Listing(folder, names, kinds.most_common(1)[0][0])


def _below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """In all sub-folders that are no links, hidden ones and hidden files left out."""
    found: list[str] = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(path).relative_to(folder)
        found += [(below / name).as_posix() for name in files if _is_image(name, suffixes)]
    return sorted(found, key=lambda name: name.split("/"))


def _in(folder: Path, suffixes: tuple[str, ...], below: bool) -> list[str]:
    """In a folder, or in all of its sub-folders; links are followed, since these images are named."""
    if not below:
        return sorted(entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(suffixes))
    folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return [f"{name}/{image}" for name in folders for image in _in(folder / name, suffixes, below=False)]


def _is_image(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith(".")


def _kind_of(folder: Path, name: str, inside: bool) -> Kind | str:
    """What an image is by its header, or what is wrong with it."""
    wrong = _no_file(folder, name, inside)
    if wrong is not None:
        return wrong
    try:
        with _quietly(), Image.open(folder / name, formats=CODECS) as image:
            return _kind(image)
    except Exception as error:  # whatever a damaged file makes of a decoder, it is about that file
        return _cannot(error)


def _kind(image: Any) -> Kind:
    mode = image.mode
    if mode in ("P", "PA"):
        mode = "RGBA" if mode == "PA" or "transparency" in image.info else "RGB"
    elif mode == "1":
        mode = "L"
    elif mode not in KEPT and not mode.startswith("I;16"):
        mode = "RGB"
    width, height = image.size
    if width * height > PIXELS:
        raise ValueError(f"{width * height:,} pixels, expected at most {PIXELS:,}")
    return Kind(width, height, "I;16" if mode.startswith("I;16") else mode)


def _decode(listing: Listing, name: str, inside: bool, out: np.ndarray) -> str | None:
    """Fill `out` with an image; what is wrong with it instead."""
    wrong = _no_file(listing.folder, name, inside)
    if wrong is not None:
        return wrong
    try:
        with _quietly(), Image.open(listing.folder / name, formats=CODECS) as image:
            kind = _kind(image)
            if kind != listing.kind:
                return f"is {kind}, expected {listing.kind}"
            same = image.mode == kind.mode or image.mode.startswith("I;16")
            out[...] = np.asarray(image if same else image.convert(kind.mode))
    except Exception as error:  # see _kind_of
        return _cannot(error)
    return None


def _quietly() -> warnings.catch_warnings:
    """Without Pillow's warnings of images that are large or oddly made."""
    return warnings.catch_warnings(action="ignore")


def _cannot(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    if "cannot identify image file" in text:
        return "is no image, or damaged"
    return f"cannot be decoded ({text or type(error).__name__})"


def _no_file(folder: Path, name: str, inside: bool) -> str | None:
    """Why an image is not opened: only one that is named itself may lie elsewhere by a link."""
    path = folder / name
    try:
        if inside and path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return "is a link out of the folder"
        return None if stat.S_ISREG(path.stat().st_mode) else "is not a regular file"
    except (OSError, RuntimeError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
