"""What a page is made from, as the run folder holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.report.page.leaves import Table, table, tables, text
from app.report.timeline import Timeline


@dataclass(frozen=True)
class Facts:
    """`results`: the tree of run.h5. `given`: the resolved input, `given_text` the same as TOML. `begun`, `done`,
    `code`, `ran_on`: as in progress.json. `state`: as `phalanx status` says it, `last_words` what the run said at its
    end. `log`: text of run.log. `timelines` by the names of their files.
    """

    folder: str
    results: Table
    given: Mapping[str, Any]
    given_text: str
    begun: tuple[str, ...]
    done: Mapping[str, Mapping[str, float]]
    code: Mapping[str, str]
    ran_on: Mapping[str, int]
    state: str
    last_words: str
    log: str
    timelines: Mapping[str, Timeline]

    @property
    def name(self) -> str:
        """Of the run, else of its folder."""
        return text(table(self.given, "run"), "name") or self.folder.rstrip("/").rpartition("/")[2] or "run"

    @property
    def phases(self) -> dict[str, Table]:
        """What each phase has written, in the order of the input; {} for one that has written nothing."""
        found = tables(table(self.results, "phases"))
        return {name: found.get(name, {}) for name in (*self.inputs, *(n for n in found if n not in self.inputs))}

    @property
    def inputs(self) -> dict[str, Table]:
        """The input of each phase."""
        listed = table(self.given).get("phase")
        entries = listed if isinstance(listed, list) else []
        return {text(entry, "name"): entry for entry in entries if isinstance(entry, Mapping) and text(entry, "name")}

    def kind(self, name: str) -> str:
        """Of a phase, "" where it is not known."""
        return text(table(self.inputs, name), "kind") or text(self.phases.get(name, {}), "kind")

    def phase_state(self, name: str) -> str:
        """done, begun, running or waiting."""
        if name in self.done:
            return "done"
        if name not in self.begun:
            return "done" if not self.inputs and name in self.phases else "not begun"
        return "running" if self.state == "running" and name == self.begun[-1] else "begun"
