"""The page of `phalanx report`, read with a real browser: from a file, with nothing else there."""

import shutil
import struct

import pytest

from app.cli import main
from tests.launch import ALONE, completed
from tests.parts.report import example
from tests.runs import fragile
from tests.runs.browser import Browser

IMAGES = """
Promise.all([...document.images].map(image => image.decode().then(() => image)))
    .then(all => all.map(one => [one.complete, one.naturalWidth, one.naturalHeight, one.alt, one.clientWidth]))
"""
OVERFLOW = "[document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """By name a page alone in a folder, and the pictures that were made with it."""
    folder = tmp_path_factory.mktemp("runs")
    file = fragile.write_every_kind(folder, 0.0)
    completed(file, ALONE, f"run.folder={folder / 'real'}", "run.trace=2", "run.measure=0.1", "phase.ground.steps=20")
    example.make(folder / "everything")
    found = {}
    for name in ("real", "everything"):
        assert main(["report", str(folder / name)]) == 0
        page = folder / f"{name}.html"
        shutil.move(folder / name / "report" / "index.html", page)
        found[name] = page, sorted((folder / name / "report").glob("*.png"))
    return found


def size(png):
    """Width and height of a PNG file."""
    return struct.unpack(">II", png.read_bytes()[16:24])


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", ["real", "everything"])
def test_all_pictures_are_there_and_nothing_complains(name, width, browser, pages):
    page, files = pages[name]
    opened = browser.open(page, width)
    assert opened.messages == []
    assert opened.requests == [page.as_uri()]
    images = browser.value(IMAGES)
    assert all(complete and shown > 0 and words for complete, _, _, words, shown in images)
    assert sorted((wide, high) for _, wide, high, _, _ in images) == sorted(map(size, files))
    inner, window = browser.value(OVERFLOW)
    assert inner <= window


def test_a_run_of_every_kind_has_its_sections(browser, pages):
    browser.open(pages["real"][0], 1280)
    titles = browser.value("[...document.querySelectorAll('h2')].map(title => title.textContent)")
    wanted = "Phases Networks Training Pruning Evaluation Quantum Time Warnings Input"
    assert titles == wanted.split()
    rows = browser.value("[...document.querySelectorAll('#phases tbody tr')].map(row => row.innerText.split('\\t'))")
    assert [row[:3] for row in rows] == [
        ["net", "train", "done"],
        ["thin", "prune", "done"],
        ["student", "distill", "done"],
        ["ground", "quantum", "done"],
        ["test", "evaluate", "done"],
    ]


def test_the_browser_sees_what_is_wrong(browser, tmp_path):
    """Else the tests above could not fail."""
    page = tmp_path / "bad.html"
    page.write_text('<!doctype html><img src="missing.png"><script>console.error("no"); throw new Error("x")</script>')
    opened = browser.open(page, 800)
    assert len(opened.messages) >= 3
    assert any("missing.png" in address for address in opened.requests)
