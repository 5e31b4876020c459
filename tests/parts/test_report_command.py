"""`phalanx report FOLDER`: a page and pictures of what a run folder holds, and tables for the terminal."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.storage.artifact_file import Provenance
from app.storage.outcome import LastWord
from app.storage.progress import RunProgress, write_progress
from app.storage.results import Results
from app.storage.run_folder import RunFolder
from tests.parts.report import example

TREE = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "results")
    made.create()
    write_progress(made.progress, RunProgress("1", {}))
    return made


def appraise(folder, *names):
    table = {"kind": "train", "appraisal": {"quality": "accuracy", "after": example.APPRAISAL._asdict()}}
    provenance = Provenance("phalanx", "0.1.0", "", "1", "")
    Results(folder.results).update({"phases": dict.fromkeys(names, table)}, provenance)


def report(folder, capsys):
    code = main(["report", str(folder.path)])
    told = capsys.readouterr()
    return code, told.out, told.err


def files(folder):
    return sorted(path.name for path in folder.report.iterdir())


def test_a_picture_and_a_table_for_each_phase(folder, capsys):
    example.record(folder, "teacher")
    example.record(folder, "student")
    code, out, err = report(folder, capsys)
    assert (code, err) == (0, "")
    for name in ("teacher", "student"):
        path = folder.report / f"timeline-{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert str(path) in out.splitlines()
        assert f"{name}: gpipe on 1x2 (replicas x stages), 1 step of 20 ms" in out
    assert out.count("bubble: measured 50.0 %, predicted 50.0 %") == 2
    assert out.count("   1        0      1  100.0 %  0.0 %") == 2
    assert out.splitlines()[-1] == str(folder.page)


def test_a_strangers_pictures_and_page_stay_at_a_fresh_start(folder, capsys):
    example.record(folder, "teacher")
    report(folder, capsys)
    (folder.report / "timeline-mine.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody else")
    folder.page.write_text("<!doctype html><title>mine</title>")
    (folder.traces / "mine.json").write_text('{"traceEvents": []}')
    folder.clear()
    assert sorted(path.name for path in folder.path.glob("*/*")) == ["index.html", "mine.json", "timeline-mine.png"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_of_no_run(tmp_path, capsys, exists):
    path = tmp_path / "mine"
    if exists:
        path.mkdir()
    code, out, err = report(RunFolder(path), capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}: is no run folder: found neither progress.json nor run.h5 in it. What to try: ")


def test_networks_without_traces(folder, capsys):
    appraise(folder, "teacher", "student")
    code, out, err = report(folder, capsys)
    assert (code, err) == (0, "")
    assert files(folder) == ["index.html", "networks.png"]
    assert (folder.report / "networks.png").read_bytes().startswith(b"\x89PNG")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["teacher", "student"]
    assert lines[-2:] == [str(folder.report / "networks.png"), str(folder.page)]


def test_results_alone(folder, capsys):
    """As somebody keeps them who has no use for the rest."""
    appraise(folder, "teacher")
    folder.progress.unlink()
    code, _, err = report(folder, capsys)
    assert (code, err) == (0, "")
    assert "networks.png" in files(folder)


def test_a_run_that_has_only_begun(folder, capsys):
    given = {"run": {"name": "young"}, "phase": [{"kind": "train", "name": "teacher"}]}
    write_progress(folder.progress, RunProgress("1", given, ("teacher",)))
    example.record(folder, "teacher")
    (folder.traces / "teacher.json").unlink()
    folder.log.write_bytes(b"2026-11-22 15:04:06 info    teacher: train begins\n2026-11-22 15:0")
    code, out, err = report(folder, capsys)
    assert (code, err, out) == (0, "", f"{folder.page}\n")
    page = folder.page.read_text()
    assert "young" in page
    assert re.search("<td[^>]*>teacher</td><td[^>]*>train</td><td[^>]*>begun</td>", page)


def test_a_run_that_failed_says_why(folder, capsys):
    word = LastWord("", "")
    word.known(folder.outcome)
    word.failed(2, "a.h5: <b>is damaged</b>")
    appraise(folder, "teacher")
    assert report(folder, capsys)[0] == 0
    page = folder.page.read_text()
    assert '<span class="state failed">failed</span>' in page
    assert "a.h5: &lt;b&gt;is damaged&lt;/b&gt;" in page


@pytest.mark.parametrize("broken", ["trace", "results", "half of the results", "progress"])
def test_a_damaged_file_is_named_and_nothing_is_written(folder, capsys, broken):
    example.record(folder, "teacher")
    appraise(folder, "teacher")
    path = {"trace": folder.traces / "teacher.json", "progress": folder.progress}.get(broken, folder.results)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if broken != "results" else whole[:-9] + b"x" * 9)
    code, out, err = report(folder, capsys)
    assert (code, out) == (2, "")
    assert str(path) in err
    assert "Traceback" not in err
    assert not folder.report.exists()


def test_neither_torch_nor_mpi_nor_a_display_is_asked_for_and_a_fresh_start_takes_it_all(tmp_path):
    folder = example.make(tmp_path / "results")
    program = (
        "import json, sys\nfrom app.cli import main\n"
        "code = main(sys.argv[1:])\nprint(json.dumps([code, sorted(sys.modules)]))"
    )
    command = [sys.executable, "-c", program, "report", str(folder.path)]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TREE), "MPLBACKEND": "TkAgg", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, timeout=120)
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert not {"torch", "mpi4py", "horovod", "tkinter", "matplotlib.pyplot"} & set(loaded)
    assert len(files(folder)) > 12
    folder.clear()
    assert not folder.report.exists()
