"""What `phalanx info FILE` prints: our files with what matters in each kind, anybody's HDF5 with its datasets."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import ArtifactError
from app.report.log import escaped
from app.storage import artifact_file, header
from app.storage.tree import unescape

_INPUT_LINES = 12
_ROWS_SHOWN = 60
_FACTS_SHOWN = 40
_DEEPEST = 64
_LONGEST_LINE = 400  # a name may have 64 KiB
_SIGNATURE_PLACES = (0, *(512 << power for power in range(12)))


def describe(path: Path) -> list[str]:
    """Lines about any HDF5 file, Phalanx's or not, found by a process of its own. Collective over: none.

    Raises ArtifactError: missing, truncated, damaged, newer than this program, no HDF5 at all; DataError: HDF5 cannot
    even look at it.
    """
    from app.storage.header_walk import described

    return described(Path(path))


def describe_here(path: Path) -> list[str]:
    """`describe` in this process, which a damaged file may end."""
    start, size = _start(path)
    try:
        if start.startswith(b"PHALANX\n"):
            with artifact_file.opened(path) as (file, found):
                return [_printable(line) for line in _ours(path, file, found)]
        if _is_hdf5(path):
            return [_printable(line) for line in _strangers(path, size)]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ArtifactError(f"{path}: HDF5 cannot read it: {error}") from error
    why = f"it begins with {start[:8]!r}" if start else "it is empty"
    raise ArtifactError(f"{path}: is not an HDF5 file: {why}. What to try: name a file of a run folder, or of data.")


def _printable(line: str) -> str:
    text = escaped(line)
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 3]}..."


def _start(path: Path) -> tuple[bytes, int]:
    if path.is_dir():
        raise ArtifactError(f"{path}: a folder, expected a file. What to try: name a file in it, such as run.h5.")
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path}: not a regular file.")
    try:
        with path.open("rb") as file:
            return file.read(header.SIZE), path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be opened: {error.strerror}.") from error


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        for place in _SIGNATURE_PLACES:
            file.seek(place)
            if file.read(8) == header.HDF5_SIGNATURE:
                return True
    return False


def _ours(path: Path, file: Any, found: artifact_file.Header) -> list[str]:
    origin = found.provenance
    facts = {
        "file": f"{path} ({size_text(found.bytes)}, checksum right)",
        "kind": found.kind,
        "phase": origin.phase,
        "written": f"{found.written} by {origin.creator} {origin.version}",
        "run": origin.run_id,
        **_KINDS.get(found.kind, _no_facts)(file),
    }
    text = origin.input_text.rstrip().splitlines()
    more = [f"... {len(text) - _INPUT_LINES} more lines in the attribute 'input'"] if len(text) > _INPUT_LINES else []
    lines = _aligned(facts)
    if text:
        lines += ["", "input", *(f"  {line}".rstrip() for line in text[:_INPUT_LINES]), *(f"  {line}" for line in more)]
    return [*lines, *_table(_datasets(file), chunks=False)]


def _aligned(facts: dict[str, str]) -> list[str]:
    width = min(24, max(map(len, facts)))
    return [f"{name:<{width}}  {value}" for name, value in facts.items() if value]


def _no_facts(_: Any) -> dict[str, str]:
    return {}


def _network_facts(file: Any) -> dict[str, str]:
    stored = _datasets(file.get("weights", {}))
    weights: dict[str, dict[str, Any]] = defaultdict(dict)
    for place, dataset in stored:
        name, _, part = place.partition("/")
        weights[name][part] = dataset
    count, size = sum(map(_elements, weights.values())), size_text(sum(_bytes(dataset) for _, dataset in stored))
    sparse = sum("shape" in parts for parts in weights.values())
    words = f", {sparse} of them in compressed sparse rows" if sparse else ""
    facts = {"weights": f"{count:,} numbers in {len(weights)} tensors{words}, {size}"}
    smaller = len(file.get("architecture/shapes", {}))
    facts |= {"pruned": f"{smaller} tensors are smaller than those of its kind"} if smaller else {}
    values = _small_values(file.get("architecture", {}), "architecture")
    facts |= {name: value for name, value in values.items() if not name.startswith("architecture/shapes")}
    return facts | _small_values(file.get("extras", {}), "extras")


def _elements(parts: dict[str, Any]) -> int:
    """Of a weight: one dataset, or those of compressed sparse rows."""
    if "shape" in parts:
        return math.prod(int(size) for size in parts["shape"][()].ravel())
    return sum(dataset.size or 0 for dataset in parts.values())


def _checkpoint_facts(file: Any) -> dict[str, str]:
    facts = {name: _shown(file[name]) for name in ("epoch", "step") if name in file}
    if "part" in file and "parts" in file:
        facts["part"] = f"{file['part'][()] + 1} of {file['parts'][()]}"
    return facts


def _run_facts(file: Any) -> dict[str, str]:
    """Per phase and group in it: the scalars, and of a table the last row."""
    facts: dict[str, list[str]] = {"phase": []}  # which phase wrote the file last says nothing here
    for place, dataset in _datasets(file.get("phases", {})):
        parent, _, name = place.rpartition("/")
        if dataset.shape == ():
            facts.setdefault(parent, []).append(f"{unescape(name)} {_shown(dataset)}")
        elif dataset.shape is not None and len(dataset.shape) == 1 and dataset.size:
            row = facts.setdefault(parent, [f"last of {dataset.size:,}:"])
            row.append(f"{unescape(name)} {_number(dataset[-1])}")
    return {unescape(place): ", ".join(parts).replace(":,", ":") for place, parts in facts.items()}


def _state_facts(file: Any) -> dict[str, str]:
    """Of one part of a state vector."""
    positions = file["positions"][()].tolist()
    return {
        "qubits": f"{len(positions)}, in amplitudes of 2 x {file['re'].dtype}",
        "part": f"{file['part'][()] + 1} of {file['parts'][()]}, {file['re'].size:,} amplitudes",
        "positions": ", ".join(f"qubit {qubit} at bit {place}" for qubit, place in enumerate(positions)),
    }


def _prediction_facts(file: Any) -> dict[str, str]:
    found, count = _datasets(file), file["sample"].shape[0]
    classes = [_shown(one) for place, one in found if place == "class_names"]  # a group where they are not known
    facts = {"samples": f"{count:,}", "network": _shown(file["network"]), "classes": "".join(classes)}
    columns = [place for place, one in found if one.shape and one.shape[0] == count and "/" not in place]
    facts["columns"] = ", ".join(columns)
    return facts | _small_values(file.get("metrics", {}), "metrics") | _drift_facts(file)


def _drift_facts(file: Any) -> dict[str, str]:
    """Of what the predictions' inputs and outputs were compared with, how much has drifted."""
    found = {side: table["drifted"] for side, table in file.get("monitor/drift", {}).items()}
    words = ", ".join(f"{int(one[()].sum())} of {one.size} {side}" for side, one in found.items())
    return {"drifted": words} if words else {}


_KINDS = {
    "network": _network_facts,
    "export": _network_facts,
    "checkpoint": _checkpoint_facts,
    "run": _run_facts,
    "quantum-state": _state_facts,
    "predictions": _prediction_facts,
}


def _small_values(group: Any, title: str) -> dict[str, str]:
    """The small datasets below a group, those of one subgroup on one line."""
    lines: dict[str, list[str]] = defaultdict(list)
    for place, dataset in _datasets(group):
        parent, _, name = place.rpartition("/")
        if (dataset.size or 0) <= 16:
            lines[f"{title}/{parent}" if parent else title].append(f"{unescape(name)} {_shown(dataset)}")
    return {unescape(place): ", ".join(values) for place, values in list(lines.items())[:_FACTS_SHOWN]}


def _strangers(path: Path, size: int) -> list[str]:
    import h5py

    with h5py.File(path, "r", locking="best-effort") as file:
        links: list[str] = []
        found = _datasets(file, links=links)
        facts = {"file": f"{path} ({size_text(size)})", "kind": "HDF5, not written by Phalanx"}
        if file.attrs.get("creator") == "phalanx" and str(file.attrs.get("kind")) in _SETS:
            facts |= _set_facts(file)
        else:
            facts |= {name: _attribute(file.attrs[name]) for name in itertools.islice(file.attrs, _FACTS_SHOWN)}
        return [*_aligned(facts), *_table(found, chunks=True), *_links(links), *_hints(found)]


_SETS = {"dataset": "dataset of a preprocess phase", "dataset-part": "part of a dataset of a preprocess phase"}


def _set_facts(file: Any) -> dict[str, str]:
    """What a preprocess phase notes of its set; of a column its classes."""
    words = {name: _attribute(value) for name, value in itertools.islice(file.attrs.items(), _FACTS_SHOWN)}
    counts = [f"{words[name]} {name}" for name in ("records", "bad", "filtered", "repeated") if name in words]
    facts = {
        "kind": _SETS[words["kind"]],
        "phase": words.get("phase", ""),
        "written": f"{words['written']} by {words['creator']} {words['version']}" if "written" in words else "",
        "run": words.get("run_id", ""),
        "samples": words.get("samples", "") + (f" of {', '.join(counts)}" if counts else ""),
        "parts": f"{words['parts']} (train, validation, test)" if "parts" in words else "",
        "sources": words.get("sources", ""),
        "digest": words.get("digest", ""),
    }
    named = ((place, one.attrs["class_names"]) for place, one in _datasets(file) if "class_names" in one.attrs)
    return facts | {f"classes of {place}": _attribute(names) for place, names in itertools.islice(named, _FACTS_SHOWN)}


def _links(found: list[str]) -> list[str]:
    more = [f"... and {len(found) - _ROWS_SHOWN} more links"] if len(found) > _ROWS_SHOWN else []
    return ["", "links, not followed:", *(f"  {line}" for line in found[:_ROWS_SHOWN]), *more] if found else []


def _attribute(value: Any) -> str:
    text = " ".join(str(value.decode("utf-8", "replace") if isinstance(value, bytes) else value).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def _hints(found: Sequence[tuple[str, Any]]) -> list[str]:
    """Which datasets could be the inputs and targets of a [data] table: numbers, and as many along axis 0."""
    by_length: dict[int, list[tuple[str, Any]]] = defaultdict(list)
    for place, dataset in found:
        if dataset.shape and _kind(dataset) in "iufb" and dataset.shape[0] > 1:
            by_length[dataset.shape[0]].append((place, dataset))
    lines = []
    for length, group in sorted(by_length.items(), reverse=True):
        if len(group) > 1:
            inputs = max(group, key=lambda item: item[1].size)[0]
            targets = min((item for item in group if item[0] != inputs), key=lambda item: item[1].size)[0]
            names = ", ".join(place for place, _ in group)
            lines += [
                f"{length:,} samples along axis 0 in: {names}",
                f'  [data] could say: inputs = "{inputs}", targets = "{targets}"',
            ]
    return ["", *lines] if lines else []


def _datasets(
    group: Any, prefix: str = "", seen: set[int] | None = None, links: list[str] | None = None
) -> list[tuple[str, Any]]:
    """Every dataset below a group with its path, in stored order, each group once; other links are noted, not followed.

    Raises ValueError.
    """
    from h5py import Dataset, Group, h5o

    seen = set() if seen is None else seen
    if prefix.count("/") > _DEEPEST:
        raise ValueError(f"groups more than {_DEEPEST} deep")
    found: list[tuple[str, Any]] = []
    for name in group:
        link = group.get(name, getlink=True)
        if type(link).__name__ != "HardLink":
            if links is not None:
                links.append(f"{prefix}{name} -> {_target(link)}")
            continue
        thing = group[name]
        if isinstance(thing, Dataset):
            found.append((f"{prefix}{name}", thing))
        elif isinstance(thing, Group):
            address = h5o.get_info(thing.id).addr
            if address not in seen:
                seen.add(address)
                found += _datasets(thing, f"{prefix}{name}/", seen, links)
    return found


def _target(link: Any) -> str:
    other = getattr(link, "filename", None)
    return f"{link.path} in the file {other}" if other else str(getattr(link, "path", "of an unknown type"))


def _table(found: Sequence[tuple[str, Any]], *, chunks: bool) -> list[str]:
    if not found:
        return ["", "no datasets"]
    titles = ["dataset", "shape", "dtype", "bytes", *(["chunks", "compression"] if chunks else [])]
    cells = [titles, *(_cells(place, dataset, chunks) for place, dataset in found[:_ROWS_SHOWN])]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    more = [f"... and {len(found) - _ROWS_SHOWN} more datasets"] if len(found) > _ROWS_SHOWN else []
    return ["", lines[0], "-" * max(map(len, lines)), *lines[1:], *more]


def _cells(place: str, dataset: Any, chunks: bool) -> list[str]:
    shape = "empty" if dataset.shape is None else " x ".join(map(str, dataset.shape)) or "scalar"
    cells = [
        "/".join(map(unescape, place.split("/"))) if not chunks else place,
        shape,
        _dtype(dataset),
        size_text(_bytes(dataset)),
    ]
    if chunks:
        cells += [_layout(dataset), _filters(dataset)]
    return cells


def _layout(dataset: Any) -> str:
    if dataset.is_virtual:
        return "virtual"
    if dataset.external:
        return "in other files"
    return " x ".join(map(str, dataset.chunks)) if dataset.chunks else "-"


def _filters(dataset: Any) -> str:
    """Every filter of the chunks, also those that this HDF5 does not have."""
    rules = dataset.id.get_create_plist()
    found = [rules.get_filter(number) for number in range(rules.get_nfilters())]
    known = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
    return (
        " + ".join(known.get(code) or label.decode("utf-8", "replace") or f"filter {code}" for code, *_, label in found)
        or "-"
    )


def _kind(dataset: Any) -> str:
    """numpy's letter for the kind of values; "V" for those that numpy does not know."""
    try:
        return str(dataset.dtype.kind)
    except TypeError:
        return "V"


def _dtype(dataset: Any) -> str:
    from h5py import check_string_dtype

    if "torch_dtype" in dataset.attrs:
        return _attribute(dataset.attrs["torch_dtype"])
    try:
        dtype = dataset.dtype
    except TypeError:
        return "unknown"
    return "text" if check_string_dtype(dtype) else _attribute(dtype)


def _bytes(dataset: Any) -> int:
    return (dataset.size or 0) * dataset.id.get_type().get_size()


def _shown(dataset: Any) -> str:
    """A small dataset's values on one line."""
    if dataset.shape is None:
        return "none"
    value = dataset[()]
    if dataset.shape == ():
        return _number(value)
    return ", ".join(_number(item) for item in value.ravel().tolist())


def _number(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return f"{float(value):.6g}" if isinstance(value, float) or kind == "f" else str(value)


def size_text(count: int) -> str:
    """`512 B`, `1.5 MiB`"""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
