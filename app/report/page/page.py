"""All of a run on one page: what goes where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from app.report import networks_picture, timeline_picture
from app.report.networks import exported_rows, network_rows, overview_cells
from app.report.page import (
    canvas,
    confusion,
    curves,
    exports,
    html,
    monitored,
    prepared,
    pruning,
    quantum,
    shares,
    told,
)
from app.report.page.facts import Facts
from app.report.page.html import Picture, Section
from app.report.page.leaves import Table, number, table, text
from app.report.progress import number as plain
from app.report.summary import duration
from app.report.timeline import Timeline, summary

_RESULTS = 6  # numbers of a phase in the table
_NOT_RESULTS = ("samples", "samples_per_s", "rate", "epoch")


class Page(NamedTuple):
    """The HTML, and the pictures on it, which are files as well."""

    html: str
    pictures: list[Picture]


class _Shown:
    """The pictures of a page, whose files all have names of their own."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self._names: set[str] = set()

    def put(self, drawn: Iterable[Picture | None]) -> str:
        """HTML of them, beside each other."""
        named = [self._named(picture) for picture in drawn if picture is not None]
        self.pictures += named
        return html.pictures(named)

    def _named(self, picture: Picture) -> Picture:
        stem, count, name = picture.file.removesuffix(".png"), 1, picture.file
        while name.lower() in self._names:
            count += 1
            name = f"{stem}-{count}.png"
        self._names.add(name.lower())
        return picture._replace(file=name)


def compose(facts: Facts) -> Page:
    """Draw everything that the run folder has something about. Collective over: none."""
    shown = _Shown()
    found = list(told.entries(facts.log))
    with canvas.styled():
        sections = [
            Section("Phases", _phases(facts, told.seconds(found, facts.phases))),
            Section("Data", _of_kind(facts, "preprocess", prepared.body)),
            Section("Networks", _networks(facts, shown)),
            Section("Training", shown.put(curves.picture(*phase) for phase in facts.phases.items())),
            Section("Pruning", _by_phase(facts, shown, pruning.pictures)),
            Section("Evaluation", _evaluation(facts, shown)),
            Section("Quantum", _quantum(facts, shown)),
            Section("Exports", _of_kind(facts, "export", exports.body)),
            Section("Predictions", _predictions(facts, shown)),
            Section("Time", _time(facts, shown)),
            Section("Warnings", _complaints(found)),
            Section("Input", _input(facts)),
        ]
    text_of_page = html.page(f"{facts.name}: Phalanx report", _head(facts, found), sections, _foot(facts))
    return Page(text_of_page, shown.pictures)


def _head(facts: Facts, found: list[told.Entry]) -> str:
    begun, ended = (found[0].when, found[-1].when) if found else ("", "")
    ran = facts.ran_on
    grid = [f"{ran[key]} {key if ran[key] != 1 else key[:-1]}" for key in ("ranks", "stages", "threads") if key in ran]
    versions = [
        f"{name} {version}" for name, version in facts.code.items() if "." in str(version)
    ]  # others are checksums
    lines = [
        f"{begun} to {ended[11:] if ended[:10] == begun[:10] else ended}" if begun else "",
        " · ".join(f"{part} a rank" if "thread" in part else part for part in grid),
        " · ".join(versions),
    ]
    said = "".join(html.paragraph(line, "soft") for line in lines if line)
    failed = facts.state not in ("done", "running", "new") and facts.last_words
    last = html.paragraph(facts.last_words, "warning") if failed else ""
    badge = f'<span class="state {html.safe(facts.state)}">{html.safe(facts.state)}</span>'
    return f"<h1>{html.safe(facts.name)} {badge}</h1>{said}{last}{html.tiles(_figures(facts, found))}"


def _figures(facts: Facts, log: list[told.Entry]) -> list[tuple[str, str]]:
    """The few numbers that say most about the run."""
    done = sum(facts.phase_state(name) == "done" for name in facts.phases)
    made = [("phases done", f"{done} of {len(facts.phases)}")]
    statistics = table(facts.results, "data", "statistics")
    samples, classes = number(statistics, "samples"), number(statistics, "classes")
    if samples is not None:
        made.append(("training samples", f"{samples:,.0f}"))
    if classes:
        made.append(("classes", f"{classes:,.0f}"))
    rows = network_rows(facts.results)
    if len(rows) > 1:
        made.append(("networks", str(len(rows))))
    tested = [(row.metrics[row.quality], row) for row in rows if row.quality in row.metrics]
    if tested:
        best, row = max(tested, key=lambda pair: pair[0])
        made.append((f"best test {row.quality}, {row.name}", f"{best:.4f}"))
    quantum_phases = [phase for name, phase in facts.phases.items() if facts.kind(name) == "quantum"]
    gaps = [gap for phase in quantum_phases if (gap := number(phase, "difference")) is not None]
    if gaps:
        made.append(("largest difference to exact energies", f"{max(map(abs, gaps)):.2g}"))
    complaints = told.complaints(log)[1]
    return [*made, *([("warnings and errors", str(complaints))] if complaints else [])]


def _phases(facts: Facts, spent: Mapping[str, float]) -> str:
    rows = []
    for name in facts.phases:
        found = table(facts.done, name)
        values = {key: value for key in found if key not in _NOT_RESULTS and (value := number(found, key)) is not None}
        results = [f"{key.replace('_', ' ')} {_told(value)}" for key, value in values.items()]
        speed = number(found, "samples_per_s")
        rows.append(
            [
                name,
                facts.kind(name) or "-",
                facts.phase_state(name),
                ", ".join([*results[:_RESULTS], *(["…"] if len(results) > _RESULTS else [])]) or "-",
                _whole(spent[name]) if name in spent else "-",
                plain(speed) if speed is not None else "-",
            ]
        )
    return html.table(("phase", "kind", "state", "results", "time", "samples/s"), rows, left=4) if rows else ""


def _told(value: float) -> str:
    """Counts in full, other numbers with four digits."""
    whole = abs(value) >= 1 and value == round(value)
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def _whole(seconds: float) -> str:
    """The log says times to the second."""
    if seconds < 1:
        return "< 1 s"
    return f"{seconds:.0f} s" if seconds < 60 else duration(seconds)


def _networks(facts: Facts, shown: _Shown) -> str:
    rows = [*network_rows(facts.results), *exported_rows(facts.results)]
    if not rows:
        return ""
    head, *cells = overview_cells(rows)
    drawn = networks_picture.picture(rows)
    pictures = []
    if drawn is not None:
        words = "; ".join(
            f"{line[0]}: " + ", ".join(map(" ".join, zip(head[2:], line[2:], strict=True))) for line in cells
        )
        caption = "How well each network does against how long it takes."
        pictures.append(Picture("networks.png", drawn, caption, f"Accuracy against latency. {words}.", "large"))
    return html.table(head, cells, left=2) + shown.put(pictures)


def _evaluation(facts: Facts, shown: _Shown) -> str:
    found, left = confusion.confusions(facts)
    said = (
        html.paragraph(f"Of comparisons the best and the worst network; {left} more are in run.h5.", "soft")
        if left
        else ""
    )
    return shown.put(map(confusion.picture, found)) + said


def _quantum(facts: Facts, shown: _Shown) -> str:
    found = {name: phase for name, phase in facts.phases.items() if facts.kind(name) == "quantum" and phase}
    if not found:
        return ""
    rows = [quantum.row(name, phase) for name, phase in found.items()]
    body = html.table(quantum.HEAD, rows, left=2)
    body += shown.put([picture for name, phase in found.items() for picture in quantum.pictures(name, phase)])
    circuits = {name: text(phase, "circuit") for name, phase in found.items()}
    return body + "".join(
        html.folded(f"Circuit of {name}, OpenQASM 3", html.verbatim(code)) for name, code in circuits.items() if code
    )


def _of_kind(facts: Facts, kind: str, told_by: Callable[[Table], str]) -> str:
    """The phases of a kind that has no pictures."""
    found = {name: phase for name, phase in facts.phases.items() if facts.kind(name) == kind and phase}
    return "".join(html.heading(name) + told_by(phase) for name, phase in found.items())


def _predictions(facts: Facts, shown: _Shown) -> str:
    made = []
    for name, phase in facts.phases.items():
        if not phase or (facts.kind(name) != "predict" and not table(phase, "monitor")):
            continue
        limits = table(facts.inputs.get(name, {}), "monitor")
        drawn = monitored.pictures(name, phase, limits)
        body = html.tiles(monitored.figures(phase)) + shown.put(drawn)
        made.append(
            html.heading(name) + body + prepared.rest(phase, ("monitor", "confusion", "samples", "samples_per_s"))
        )
    return "".join(made)


def _time(facts: Facts, shown: _Shown) -> str:
    drawn = shares.pictures(facts.phases)
    lines = [_timeline(name, timeline) for name, timeline in facts.timelines.items()]
    hint = "A timeline of what every rank does in a step comes with [run] trace = 5."
    said = html.paragraph(hint, "soft") if drawn and not lines else ""
    return shown.put([*drawn, *lines]) + said


def _timeline(name: str, timeline: Timeline) -> Picture:
    words = summary(timeline)
    png = timeline_picture.picture(timeline)
    return Picture(html.file_name("timeline", name), png, words, f"Timeline of the ranks. {words}", "whole")


def _by_phase(facts: Facts, shown: _Shown, draw: Callable[[str, Table], list[Picture]]) -> str:
    return shown.put([picture for name, phase in facts.phases.items() for picture in draw(name, phase)])


def _complaints(found: list[told.Entry]) -> str:
    last, count = told.complaints(found)
    if not found:
        return ""
    if not last:
        return html.paragraph("The log has no warnings and no errors.")
    said = html.paragraph(f"The last {len(last)} of {count}.", "soft") if count > len(last) else ""
    items = "".join(
        f'<li class="{one.level}"><b>{one.level}</b>{html.safe(one.when)}\n{html.safe(one.text)}</li>' for one in last
    )
    return f'{said}<ul class="log">{items}</ul>'


def _input(facts: Facts) -> str:
    return html.folded("The input with all its defaults", html.verbatim(facts.given_text)) if facts.given_text else ""


def _foot(facts: Facts) -> str:
    return html.paragraph(f"Made by phalanx report from {facts.folder}.")
