"""The networks of a run side by side: what each costs, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from app.plan.show import bytes_text, operations_text
from app.report.appraisal import Appraisal, milliseconds
from app.report.log import escaped
from app.report.progress import number

_LEFT = ("network", "made by")
_FORMS = {"onnx": ".onnx", "int8": ".int8.onnx"}  # of a network that an export phase times


class NetworkRow(NamedTuple):
    """One network: the phase that made it and the kind of that phase, its appraisal, numbers found by evaluation.

    quality: what the appraisal's accuracy is called.
    """

    name: str
    kind: str
    quality: str
    appraisal: Appraisal | None
    metrics: Mapping[str, float]


class _Column(NamedTuple):
    """A column: cells of networks that have none are "-"."""

    title: str
    cell: Callable[[NetworkRow], str]


def network_rows(tree: Mapping[str, Any], names: Collection[str] | None = None) -> list[NetworkRow]:
    """The networks in the tree of a run.h5, those of the phases named or of all; metrics are those of the test part."""
    phases = _tables(tree.get("phases"))
    tested = _tested(phases)
    appraised = [name for name, phase in phases.items() if "after" in _table_of(phase, "appraisal")]
    return [
        _row(name, phases[name], tested.get(name, {}))
        for name in (appraised if names is None else names)
        if name in phases
    ]


def exported_rows(tree: Mapping[str, Any]) -> list[NetworkRow]:
    """The ONNX files in the tree of a run.h5: the network that each is made from, with its own latencies and metrics.

    Only those made from networks of the run, and timed.
    """
    phases = _tables(tree.get("phases"))
    known = {row.name: row for row in network_rows(tree)}
    rows = []
    for name, phase in phases.items():
        source = known.get(str(phase.get("network")))
        if source is not None and source.appraisal is not None and _says(phase, kind="export"):
            rows += [row for form in _FORMS if (row := _exported(name, form, phase, source)) is not None]
    return rows


def _exported(name: str, form: str, phase: Mapping[str, Any], source: NetworkRow) -> NetworkRow | None:
    latency = _table_of(phase, "latency")
    seconds, sizes = _table_of(latency, "seconds").get(form), latency.get("samples")
    if not isinstance(seconds, list) or not isinstance(sizes, list) or len(seconds) != len(sizes) or not seconds:
        return None
    if source.appraisal is None or not all(isinstance(one, int | float) and one > 0 for one in [*seconds, *sizes]):
        return None
    metrics = _table_of(_table_of(phase, "metrics"), form) if _says(phase, part="test") else {}
    numbers = {what: value for what, value in metrics.items() if isinstance(value, int | float)}
    appraisal = source.appraisal._replace(
        bytes=_size(_table_of(phase, "files"), name + _FORMS[form]) or source.appraisal.bytes,
        latency_1_s=seconds[0],
        latency_n_s=seconds[-1],
        batch_n=sizes[-1],
        samples_per_s=sizes[-1] / seconds[-1],
        joules=math.nan,
        loss=math.nan,
        accuracy=math.nan,
    )
    return NetworkRow(name + _FORMS[form], "export", source.quality, appraisal, numbers)


def _size(files: Mapping[str, Any], name: str) -> int | None:
    names, sizes = files.get("names"), files.get("bytes")
    if not isinstance(names, list) or not isinstance(sizes, list) or name not in names or len(names) != len(sizes):
        return None
    size = sizes[names.index(name)]
    return size if isinstance(size, int) else None


def compared(rows: Sequence[NetworkRow]) -> list[str]:
    """Aligned lines: what the networks cost beside all their metrics."""
    return _table(rows, [*_costs(rows)[:-1], *_metrics(rows)])


def overview(rows: Sequence[NetworkRow]) -> list[str]:
    """Aligned lines: what made the networks, what they cost, and how well they do; [] without networks."""
    return _table(rows, _overview(rows))


def overview_cells(rows: Sequence[NetworkRow]) -> list[list[str]]:
    """The same as cells: a head, and a line per network; [] without networks."""
    return [list(line) for line in zip(*_known(rows, _overview(rows)), strict=True)]


def _overview(rows: Sequence[NetworkRow]) -> list[_Column]:
    made_by = _Column("made by", lambda row: escaped(row.kind))
    quality = rows[0].quality if rows else ""
    validation = _Column(f"validation {quality}", lambda row: _fixed(row.appraisal.accuracy if row.appraisal else None))
    test = _Column(f"test {quality}", lambda row: _fixed(row.metrics.get(quality)))
    return [made_by, *_costs(rows), validation, test]


def _costs(rows: Sequence[NetworkRow]) -> list[_Column]:
    zeros = any(row.appraisal and row.appraisal.nonzero < 0.9 * row.appraisal.parameters for row in rows)
    sizes = {row.appraisal.batch_n for row in rows if row.appraisal}
    same = len(sizes) == 1  # [run] measure_batch may have changed between two starts

    def several(found: Appraisal) -> str:
        text = milliseconds(found.latency_n_s)
        return text if same else f"{text} for {found.batch_n}"

    return [
        _cost("parameters", lambda found: f"{found.parameters:,}"),
        *([_cost("not 0", lambda found: f"{found.nonzero:,}")] if zeros else []),
        _cost("operations", lambda found: operations_text(found.operations)),
        _cost("stored", lambda found: bytes_text(found.bytes)),
        _cost("ms for 1", lambda found: milliseconds(found.latency_1_s)),
        _cost(f"ms for {sizes.pop()}" if same else "ms for a batch", several),
        _cost("joules a sample", lambda found: f"{found.joules:.3g}"),
        _cost("samples/s", lambda found: number(found.samples_per_s)),
    ]


def _cost(title: str, text: Callable[[Appraisal], str]) -> _Column:
    def cell(row: NetworkRow) -> str:
        told = text(row.appraisal) if row.appraisal else "-"
        return "-" if told.startswith("nan") else told

    return _Column(title, cell)


def _metrics(rows: Sequence[NetworkRow]) -> list[_Column]:
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    return [_Column(name.replace("_", " "), partial(_metric, name)) for name in names]


def _metric(name: str, row: NetworkRow) -> str:
    return _fixed(row.metrics.get(name))


def _fixed(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _table(rows: Sequence[NetworkRow], columns: Sequence[_Column]) -> list[str]:
    """A head, a rule, one line per network; columns without a number are left out."""
    if not rows:
        return []
    cells = _known(rows, columns)
    widths = [max(map(len, column)) for column in cells]
    ruled = [[column[0], "-" * width, *column[1:]] for column, width in zip(cells, widths, strict=True)]
    aligned = [
        [cell.ljust(width) if column[0] in _LEFT else cell.rjust(width) for cell in column]
        for column, width in zip(ruled, widths, strict=True)
    ]
    return ["  ".join(line).rstrip() for line in zip(*aligned, strict=True)]


def _known(rows: Sequence[NetworkRow], columns: Sequence[_Column]) -> list[list[str]]:
    """By column its title and cells, those with names first; columns without a number are left out."""
    name = _Column("network", lambda row: escaped(row.name))
    cells = [[column.title, *(column.cell(row) for row in rows)] for column in (name, *columns)]
    return [column for column in cells if set(column[1:]) - {"-"}]


def _row(name: str, phase: Mapping[str, Any], metrics: Mapping[str, float]) -> NetworkRow:
    stored = _table_of(phase, "appraisal")
    quality = str(stored.get("quality", "accuracy"))
    return NetworkRow(name, str(phase.get("kind", "-")), quality, _appraisal(stored), metrics)


def _appraisal(stored: Mapping[str, Any]) -> Appraisal | None:
    after = _table_of(stored, "after")
    known = {field: after.get(field) for field in Appraisal._fields}
    if not all(isinstance(value, int | float) for value in known.values()):
        return None
    return Appraisal(**known)  # type: ignore[arg-type]


def _tested(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, float]]:
    """By network what the last evaluate phase on the test part found."""
    found: dict[str, Mapping[str, float]] = {}
    for phase in phases.values():
        if not _says(phase, kind="evaluate", part="test"):
            continue
        several = {name: _table_of(one, "metrics") for name, one in _tables(phase.get("networks")).items()}
        alone = {str(phase["network"]): _table_of(phase, "metrics")} if "network" in phase else {}
        for name, metrics in (several | alone).items():
            found[name] = {what: value for what, value in metrics.items() if isinstance(value, int | float)}
    return found


def _says(phase: Mapping[str, Any], **texts: str) -> bool:
    return all(isinstance(phase.get(key), str) and phase[key] == text for key, text in texts.items())


def _table_of(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table in a table, {} where it is none."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _tables(value: Any) -> dict[str, Any]:
    """The tables in a table."""
    return {name: table for name, table in value.items() if isinstance(table, dict)} if isinstance(value, dict) else {}
