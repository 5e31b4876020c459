"""[run] trace writes what every rank did, and `phalanx report` draws it."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.launch import ALONE, TREE, completed
from tests.runs import made

STEPS, MICROBATCHES = 3, 4  # of a step, over all replicas


@pytest.mark.parametrize(("ranks", "stages"), [(ALONE, 1), (2, 2), (4, 2)])
def test_a_timeline(ranks, stages, tmp_path):
    inputs = made.features(6)
    made.write_data(tmp_path / "data.h5", inputs, made.labels(inputs))
    file = made.write_input(tmp_path / "input.toml", {"kind": "mlp", "widths": [16, 8]}, {}, {"file": "data.h5"})
    text = completed(file, ranks, f"run.trace={STEPS}", f"grid.stages={stages}")
    assert "timeline of net written" in text
    count = max(ranks, 1)
    events = json.loads((tmp_path / "input" / "traces" / "net.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["tid"] for event in spans} == set(range(count))
    assert all(event["dur"] >= 0 for event in spans)
    played = Counter(event["name"] for event in spans)
    assert played["forward"] == played["backward"] == STEPS * MICROBATCHES * stages
    assert played["send"] == played["receive"] == STEPS * MICROBATCHES * 2 * (stages - 1)
    assert played["all-reduce"] == played["optimizer"] == STEPS * count
    drawn = subprocess.run(
        [sys.executable, "-m", "app", "report", str(tmp_path / "input")],
        capture_output=True,
        text=True,
        cwd=TREE,
        timeout=120,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "input" / "report" / "timeline-net.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"bubble: measured [\d.]+ %, predicted [\d.]+ %", drawn.stdout), drawn.stdout
