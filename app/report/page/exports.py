"""What an export phase wrote, and how the files do beside the network that they were made from."""

from __future__ import annotations

from app.plan.show import bytes_text
from app.report.appraisal import milliseconds
from app.report.page import html
from app.report.page.leaves import Table, number, numbers, table, tables, words


def body(phase: Table) -> str:
    """Two tables: the forms of the network, and the files."""
    return _forms(phase) + _files(table(phase, "files"))


def _forms(phase: Table) -> str:
    metrics, latency = tables(table(phase, "metrics")), table(phase, "latency")
    differences, seconds = table(phase, "differences"), table(latency, "seconds")
    forms = list(dict.fromkeys([*metrics, *differences, *seconds]))
    names = [name for name in dict.fromkeys(n for one in metrics.values() for n in one) if name != "samples"]
    sizes = words(latency, "samples")
    rows = [
        [
            form,
            *(_cell(number(metrics.get(form, {}), name), ".4f") for name in names),
            _cell(number(differences, form), ".1e"),
            *_times(seconds, form, len(sizes)),
        ]
        for form in forms
    ]
    head = ["form", *(name.replace("_", " ") for name in names), "largest difference", *(f"ms for {n}" for n in sizes)]
    part = str(phase.get("part", ""))
    said = f"{phase.get('network', '')} on the {part} part; differences relative to the largest output" if part else ""
    return (html.paragraph(said, "soft") if said else "") + html.table(head, rows) if rows else ""


def _times(seconds: Table, form: str, count: int) -> list[str]:
    found = numbers(seconds, form)
    return [milliseconds(float(one)) for one in found] if len(found) == count else ["-"] * count


def _files(files: Table) -> str:
    names, sizes = words(files, "names"), numbers(files, "bytes")
    if not names or len(names) != len(sizes):
        return ""
    return html.table(
        ["file", "size"], [[name, bytes_text(int(size))] for name, size in zip(names, sizes, strict=True)]
    )


def _cell(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)
