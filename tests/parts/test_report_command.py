"""`phalanx report FOLDER`: pictures and tables of the traces and networks of a run folder."""

import pytest

from app.cli import main
from app.plan.grid import Grid
from app.report.appraisal import Appraisal
from app.report.chrome import to_json
from app.report.timeline import on_one_clock
from app.report.trace import Event
from app.storage.artifact_file import Provenance
from app.storage.progress import RunProgress, write_progress
from app.storage.results import Results
from app.storage.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "results")
    made.create()
    write_progress(made.progress, RunProgress("1", {}))
    return made


def record(folder, name):
    per_rank = [[Event("forward", 0.0, 0.01, 0, 0, 1)], [Event("forward", 0.01, 0.02, 1, 0, 1)]]
    made = on_one_clock(
        per_rank, [0.0, 0.0], grid=Grid(2, 2), hosts=["a", "a"], phase=name, schedule="gpipe", predicted=0.5
    )
    folder.traces.mkdir(exist_ok=True)
    (folder.traces / f"{name}.json").write_bytes(to_json(made))


def appraise(folder, *names):
    found = Appraisal(1000, 1000, 4000, 2000, 0.001, 0.004, 16, 4000.0, float("nan"), 0.1, 0.9)
    table = {"kind": "train", "appraisal": {"quality": "accuracy", "after": found._asdict()}}
    provenance = Provenance("phalanx", "0.1.0", "", "1", "")
    Results(folder.results).update({"phases": dict.fromkeys(names, table)}, provenance)


def report(folder, capsys):
    code = main(["report", str(folder.path)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_picture_and_a_table_for_each_phase(folder, capsys):
    record(folder, "teacher")
    record(folder, "student")
    code, out, err = report(folder, capsys)
    assert (code, err) == (0, "")
    for name in ("teacher", "student"):
        path = folder.report / f"timeline-{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert str(path) in out.splitlines()
        assert f"{name}: gpipe on 1x2 (replicas x stages), 1 step of 20 ms" in out
    assert out.count("bubble: measured 50.0 %, predicted 50.0 %") == 2
    assert out.count("   1        0      1  100.0 %  0.0 %") == 2


def test_what_the_command_made_goes_with_a_fresh_start(folder, capsys):
    record(folder, "teacher")
    report(folder, capsys)
    (folder.report / "timeline-mine.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody else")
    (folder.report / "networks.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody else")
    (folder.traces / "mine.json").write_text('{"traceEvents": []}')
    folder.clear()
    assert sorted(path.name for path in folder.path.glob("*/*")) == [
        "mine.json",
        "networks.png",
        "timeline-mine.png",
    ]


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
    assert [path.name for path in folder.report.iterdir()] == ["networks.png"]
    assert (folder.report / "networks.png").read_bytes().startswith(b"\x89PNG")
    lines = out.splitlines()
    assert lines[0] == str(folder.report / "networks.png")
    assert [line.split()[0] for line in lines[3:]] == ["teacher", "student"]


def test_traces_and_networks(folder, capsys):
    record(folder, "teacher")
    appraise(folder, "teacher")
    code, out, err = report(folder, capsys)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in folder.report.iterdir()) == ["networks.png", "timeline-teacher.png"]
    assert "bubble: measured" in out
    assert "1,000" in out
    folder.clear()
    assert not folder.report.exists()


def test_a_run_without_traces_and_networks(folder, capsys):
    code, out, err = report(folder, capsys)
    assert (code, out) == (2, "")
    assert f"{folder.path}: has no traces and no networks" in err
    assert "[run] trace = 5, or --set run.trace=5" in err
    assert not folder.report.exists()


def test_a_damaged_trace(folder, capsys):
    record(folder, "teacher")
    (folder.traces / "student.json").write_text("{")
    code, out, err = report(folder, capsys)
    assert (code, out) == (2, "")
    assert f"{folder.traces / 'student.json'}: is damaged" in err
