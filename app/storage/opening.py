"""Opening a user's HDF5 file and finding a dataset in it: everything such a file may be, each as one clear sentence."""

import contextlib
import difflib
import os
import re
import stat
from pathlib import Path

import h5py
import numpy as np

from app.errors import DataError
from app.storage.untrusted import Place, check_storage, reach, sources

LISTED = 8  # dataset names shown in a message
SEARCHED = 2000  # objects of a file looked at for names near to the one asked for


def open_file(file: Path) -> h5py.File:
    """Open a file read-only. Collective over: none. Raises DataError with what the file is instead."""
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file{near_file(file)}.") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be looked at ({error.strerror}).") from None
    if not stat.S_ISREG(mode):  # a named pipe would block for ever
        raise DataError(
            f"{file}: is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}, expected an HDF5 file."
        )
    try:
        return h5py.File(file, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{file}: {open_problem(file, error)}.") from error


def open_problem(file: Path, error: Exception) -> str:
    """What is wrong with a file that HDF5 would not open."""
    text = str(error)
    size = file.stat().st_size
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return "may not be read by this user; ask its owner for read permission"
    if size == 0:
        return "is empty (0 bytes), expected an HDF5 file"
    if "signature not found" in text:
        return "is not an HDF5 file; this program reads HDF5 (.h5, .hdf5) only"
    if found := re.search(r"stored_eof = (\d+)", text):
        return f"is truncated: it has {size} of {found[1]} bytes; copy it again"
    if "lock" in text:
        return "is open for writing in another program; wait until that has closed it"
    return f"is damaged and cannot be opened as HDF5 ({why(error)})"


def find_dataset(file: Path, handle: h5py.File, name: str, cache_bytes: int) -> h5py.Dataset:
    """The dataset `name`, checked to hold samples of numbers along axis 0, in this file. Raises DataError."""
    try:
        place = reach(file, handle, name)
        if place is None:
            raise DataError(f"{file}: has no dataset '{name}'{near_names(handle, name)}.")
        found = place.open()
        if isinstance(found, h5py.h5d.DatasetID):
            dataset = h5py.Dataset(found)
            check_samples(file, dataset, name)
            check_storage(file, dataset, name)
            check_filters(file, dataset, name)
            for number, source in enumerate(sources(file, dataset, name)):  # missing ones would silently read as fill
                if number == 0:  # the others are taken to be compressed alike
                    check_source(*source)
            return with_cache(place, dataset, cache_bytes)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: '{name}' cannot be opened ({why(error)}); it is damaged.") from error
    raise DataError(f"{file}: '{name}' is a group, expected a dataset{near_names(handle, name)}.")


def with_cache(place: Place, dataset: h5py.Dataset, cache_bytes: int) -> h5py.Dataset:
    """The same dataset with its own chunk cache: HDF5 shares open files, and with them their setting."""
    if dataset.chunks is None:
        return dataset
    chunk_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    slots = 100 * max(1, cache_bytes // max(1, chunk_bytes)) | 1
    access.set_chunk_cache(min(slots, 1_000_003), cache_bytes, 0.75)
    return h5py.Dataset(h5py.h5d.open(place.group, place.name, access))


def check_samples(file: Path, dataset: h5py.Dataset, name: str) -> None:
    """Refuse what is not a table of numbers with the sample along axis 0."""
    if dataset.shape is None or 0 in dataset.shape:
        raise DataError(f"{file}: '{name}' is empty (shape {dataset.shape}), expected at least one sample.")
    if dataset.shape == ():
        raise DataError(f"{file}: '{name}' is a single value, expected a dataset whose axis 0 is the sample.")
    if dataset.dtype.kind not in "buif":
        raise DataError(f"{file}: '{name}' holds {type_name(dataset)}, expected integers or floating-point numbers.")


def type_name(dataset: h5py.Dataset) -> str:
    """A user's word for a type that is not a number."""
    dtype = dataset.dtype
    if h5py.check_string_dtype(dtype) is not None:
        return "text (strings)"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "arrays of varying length"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    if dtype.names:
        return f"records with fields {', '.join(dtype.names[:LISTED])}"
    return "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"


def check_filters(file: Path, dataset: h5py.Dataset, name: str) -> None:
    """Refuse a dataset compressed by what is not installed, after trying hdf5plugin."""
    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        code, _, _, label = plist.get_filter(i)
        if h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  registers its filters; slow to import, so only when one is met
        if not h5py.h5z.filter_avail(code):
            known = label.decode(errors="replace") or "without a name"
            raise DataError(
                f"{file}: '{name}' is compressed with HDF5 filter {code} ({known}), which is not installed here; "
                "try `pip install hdf5plugin`, or write the file again with gzip."
            )


def check_source(file: Path, name: str) -> None:
    """`check_filters` of a dataset from which a virtual one takes rows."""
    with open_file(file) as handle:
        place = reach(file, handle, name)
        found = place.open() if place is not None else None
        if isinstance(found, h5py.h5d.DatasetID):
            check_filters(file, h5py.Dataset(found), name)


def near_names(handle: h5py.File, name: str) -> str:
    """'; did you mean ...?' or what the file holds."""
    names: list[str] = []

    def visit(path: str, item: object) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(path)
        return True if len(names) >= SEARCHED else None

    handle.visititems(visit)
    near = difflib.get_close_matches(name.strip("/"), names, n=3, cutoff=0.6)
    if near:
        return " (did you mean " + " or ".join(f"'{n}'" for n in near) + "?)"
    shown = ", ".join(f"'{n}'" for n in names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return f"; it holds {shown}" if names else "; it holds no dataset at all"


def near_file(file: Path) -> str:
    """'; did you mean ...' from the names beside a file that is not there."""
    try:
        names = [entry.name for entry in os.scandir(file.parent)]
    except OSError:
        return f", and no folder {file.parent} either"
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def why(error: BaseException) -> str:
    """HDF5's own reason in one short line."""
    text = " ".join(str(error).split())
    inner = re.search(r"\((.*)\)$", text)
    return (inner[1] if inner else text)[:200] or type(error).__name__
