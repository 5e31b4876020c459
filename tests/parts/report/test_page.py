"""The page of a run: what is on it, what it makes of half a tree, and that foreign text stays text."""

import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from app.reporting import report
from app.storage.artifact_file import Provenance
from app.storage.results import Results
from app.storage.run_folder import RunFolder
from tests.parts.report import example

SECTIONS = (
    "Phases", "Data", "Networks", "Training", "Pruning", "Evaluation", "Quantum", "Exports", "Predictions", "Time",
    "Warnings", "Input",
)  # fmt: skip
VOID = {"meta", "link", "img"}
TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "header", "nav", "main", "footer", "section", "h1", "h2",
    "h3", "p", "a", "span", "b", "div", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "figure", "img",
    "figcaption", "details", "summary", "pre", "ul", "li",
}  # fmt: skip


class Read(HTMLParser):
    """A page as a browser takes it apart: its texts by the tag around them, and attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.attributes = [], set(), {}, []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = example.make(tmp_path_factory.mktemp("page") / "results")
    report(folder.path)
    return folder


@pytest.fixture(scope="module")
def read(everything):
    return Read(everything.page.read_text("utf-8"))


def paged(path, phases):
    folder = RunFolder(path)
    folder.create()
    Results(folder.results).update({"phases": phases}, Provenance("phalanx", "0.1.0", "", "1", ""))
    report(folder.path)
    return Read(folder.page.read_text("utf-8"))


def test_all_that_a_run_has_is_there(everything, read):
    assert tuple(read.texts["h2"]) == SECTIONS
    assert tuple(read.texts["a"]) == SECTIONS
    pictures = {path.name for path in everything.report.glob("*.png")}
    assert pictures == {
        "networks.png", "curves-teacher.png", "curves-thin.png", "rounds-thin.png", "sensitivity-thin-round1.png",
        "confusion-test.png", "minimise-ground.png", "probabilities-ground.png", "samples-ground.png",
        "drift-next-year-inputs.png", "drift-next-year-outputs.png", "confidence-next-year.png",
        "classes-next-year.png", "time-1.png", "timeline-teacher.png",
    }  # fmt: skip
    assert sum(tag == "img" and name == "src" for tag, name, _ in read.attributes) == len(pictures)


def test_every_picture_is_told_in_words(read):
    words = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(set(words)) == len(words)
    assert any("88.00% of 100 samples right" in text for text in words)
    assert any("from 2 to 0.1642" in text for text in words)
    assert any("compute 12 s (10.8 to 15.6)" in text for text in words)
    assert any("exact -1.137, 0.001 above" in text for text in words)
    assert any("1 of 2 have drifted: confidence" in text for text in words)


def test_the_numbers_that_matter_are_in_tiles(read):
    tiles = dict(zip(read.texts["dt"], read.texts["dd"], strict=True))
    assert tiles["phases done"] == "7 of 8"
    assert tiles["best test accuracy, teacher"] == "0.7500"
    assert (tiles["records"], tiles["bad"], tiles["repeated"]) == ("20,000", "12", "3")
    assert (tiles["samples/s"], tiles["ms at most, 99 % of batches"]) == ("12,345", "7.5")
    assert (tiles["mean confidence"], tiles["inputs drifted"]) == ("87.5%", "1 of 3")


def test_the_table_of_phases_says_state_and_time(everything):
    page = everything.page.read_text("utf-8")
    rows = [re.findall("<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr>.*?</tr>", page)]
    found = {row[0]: row for row in rows if len(row) == 6}
    assert found["teacher"][1:3] == ["train", "done"]
    assert found["teacher"][4] == "01:10"
    assert found["test"][4] == "&lt; 1 s"
    assert found["later"][2:] == ["not begun", "-", "-", "-"]


def test_what_became_of_the_records(read):
    assert "train 15,000 · validation 2,000 · test 2,985" in read.texts["td"]
    assert {"a.csv", "12,000", "b.npz", "8,000", "cut short"} <= set(read.texts["td"])


def test_the_exported_files_stand_beside_their_network(everything):
    page = everything.page.read_text("utf-8")
    rows = [re.findall("<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr>.*?</tr>", page)]
    assert ["int8", "0.7400", "-", "0.250", "1.00"] in rows
    assert ["deployed.int8.onnx", "2.0 KiB"] in rows
    assert [row[-1] for row in rows if row[:2] == ["deployed.int8.onnx", "export"]] == ["0.7400"]


def test_foreign_text_stays_text(read):
    assert read.tags <= TAGS
    assert not {"\x1b", "\u202e"} & set("".join(map("".join, read.texts.values())))
    assert any("<script>alert('x')</script>&amp; $" in text for text in read.texts["td"])
    assert any("<script>" in text for text in read.texts["li"])
    assert any("<script>" in text for text in read.texts["pre"])
    assert any(tag == "img" and name == "alt" and "<script>" in value for tag, name, value in read.attributes)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]


def test_nothing_comes_from_elsewhere(read):
    links = [value for _, name, value in read.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert all(value.startswith(("data:", "#")) for value in links)
    assert "url(" not in "".join(read.texts["style"])


def test_a_phase_with_the_name_of_a_path_stays_in_the_folder(tmp_path):
    names = ["../../evil", "a/b", "A/B", "\u202e<b>$x$" + "n" * 300]
    found = paged(tmp_path / "run", {name: {"kind": "train", **example.fit(2)} for name in names})
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    pictures = list((tmp_path / "run" / "report").glob("curves-*.png"))
    assert len(pictures) == len(names)
    assert "b" not in found.tags


def broken(value, chance):
    """A tree in which many a leaf is missing or is something else."""
    if isinstance(value, dict):
        return {name: broken(inner, chance) for name, inner in value.items() if chance.random() < 0.9}
    if chance.random() < 0.7:
        return value
    others = [
        None, "", "text", -1, 1e308, float("nan"), True, [], ["a", 1], {}, {"a": {"b": 1}}, np.zeros(0),
        np.full(5, np.nan), np.array([np.inf, -1.0, 1e300]), np.zeros((2, 3)), np.zeros((3, 3), np.int64), np.arange(7),
        np.array(3.5), np.ones(4, np.complex128),
    ]  # fmt: skip
    return chance.choice(others)


@pytest.mark.parametrize("seed", [6, 22])
def test_half_a_tree_or_a_strangers_gives_a_page(seed, tmp_path):
    found = paged(tmp_path / "run", broken(example.phases(), random.Random(seed)))
    assert "Phases" in found.texts["h2"]


def test_many_classes_and_many_features(tmp_path):
    """More than can be written in a picture."""
    counts = np.random.default_rng(1).integers(0, 9, (300, 300))
    names = [f"input {place}" for place in range(1000)]
    phases = {
        "test": {"kind": "evaluate", "metrics": {"confusion": counts}},
        "new": {"kind": "predict", "monitor": {"drift": {"inputs": example.drift(names)}}},
    }
    found = paged(tmp_path / "run", phases)
    assert any("300 classes" in value for _, name, value in found.attributes if name == "alt")
    assert any("input 999" in value for _, name, value in found.attributes if name == "alt")


def test_of_many_networks_the_best_and_the_worst_are_shown(tmp_path):
    made = {f"n{right}": {"metrics": {"confusion": np.array([[right, 10 - right], [0, 9]])}} for right in range(8)}
    found = paged(tmp_path / "run", {"all": {"kind": "evaluate", "networks": made}})
    assert {path.name for path in (tmp_path / "run" / "report").glob("confusion*")} == {
        "confusion-all-n0.png",
        "confusion-all-n7.png",
    }
    assert any("6 more" in text for text in found.texts["p"])
