"""The trace file: what viewers of the Chrome Trace Event Format need, and reading it back."""

import json
from itertools import pairwise

import pytest

from app.errors import ArtifactError
from app.plan.grid import Grid
from app.report.chrome import read_trace, to_json
from app.report.timeline import bubble, on_one_clock
from app.report.trace import KINDS, Event

HOSTS = ["node1", "node1", "node2", "node2"]
PER_RANK = [
    [Event("forward", 5.0000001, 5.1, 0, 0, 3), Event("send", 5.1000002, 5.1001, 0, 0, 3)],
    [Event("receive", 5.0, 5.1003, 1, 0, 3), Event("weights", 5.01, 5.02, 1, 2, 3)],
    [Event("forward", 4.0, 4.1, 0, 0, 3), Event("send", 4.1, 4.2, 0, 0, 3)],
    [Event("receive", 4.0, 4.3, 1, 0, 3), Event("agree", 4.3000001, 4.4, -1, -1, 3)],
]


def written(per_rank=PER_RANK, offsets=(0.0, 0.0, 1.0, 1.0)):
    return on_one_clock(
        per_rank, offsets, grid=Grid(4, 2), hosts=HOSTS, phase="teacher", schedule="1f1b", predicted=0.125
    )


@pytest.fixture
def tree():
    return json.loads(to_json(written()))


def of(tree, phase):
    return [event for event in tree["traceEvents"] if event["ph"] == phase]


def test_processes_are_replicas_and_threads_are_ranks(tree):
    named = [(e["name"], e["pid"], e["tid"], e["args"]["name"]) for e in of(tree, "M") if "name" in e["args"]]
    assert named == [
        ("process_name", 0, 0, "replica 0"),
        ("process_name", 1, 0, "replica 1"),
        ("thread_name", 0, 0, "rank 0, stage 0, node1"),
        ("thread_name", 0, 1, "rank 1, stage 1, node1"),
        ("thread_name", 1, 2, "rank 2, stage 0, node2"),
        ("thread_name", 1, 3, "rank 3, stage 1, node2"),
    ]


def test_events_in_microseconds_of_one_clock(tree):
    forward, agree = of(tree, "X")[0], of(tree, "X")[-1]
    assert forward == {
        "name": "forward", "cat": "compute", "cname": KINDS["forward"].cname, "ph": "X", "ts": 0.1, "dur": 99999.9,
        "pid": 0, "tid": 0, "args": {"chunk": 0, "microbatch": 0, "step": 3},
    }  # fmt: skip
    assert (agree["ts"], agree["pid"], agree["tid"], agree["args"]) == (300000.1, 1, 3, {"step": 3})


def test_events_of_a_thread_stand_beside_or_inside_each_other(tree):
    """Viewers refuse others; times rounded each on its own would make some."""
    per_rank = [[Event("forward", n / 3e6, (n + 1) / 3e6, 0, n, 0) for n in range(1000)], [], [], []]
    found = of(json.loads(to_json(written(per_rank))), "X")
    ends = [(round(e["ts"] * 1000), round(e["ts"] * 1000) + round(e["dur"] * 1000)) for e in found]
    assert len(ends) == 1000
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


def test_an_arrow_leads_from_inside_the_send_into_the_receive(tree):
    starts, ends = of(tree, "s"), of(tree, "f")
    assert [(e["pid"], e["tid"]) for e in starts] == [(0, 0), (1, 2)]
    assert [(e["pid"], e["tid"], e["bp"]) for e in ends] == [(0, 1, "e"), (1, 3, "e")]
    assert [e["id"] for e in starts] == [e["id"] for e in ends] == [0, 1]
    slices = {(e["tid"], e["name"]): (e["ts"], e["ts"] + e["dur"]) for e in of(tree, "X")}
    for start, end in zip(starts, ends, strict=True):
        send, receive = slices[start["tid"], "send"], slices[end["tid"], "receive"]
        assert send[0] <= start["ts"] < send[1]
        assert receive[0] <= end["ts"] < receive[1]
        assert start["ts"] <= end["ts"]


def test_no_arrow_back_in_time():
    """As when the clocks of two hosts are less exact than a message is short."""
    found = json.loads(to_json(written(offsets=(0.0, -5.0, 0.0, 0.0))))
    assert [event["tid"] for event in of(found, "s")] == [2]


def test_what_the_file_says_of_the_run(tree):
    other = tree["otherData"]
    assert {name: other[name] for name in ("phase", "grid", "schedule", "hosts", "predicted_bubble")} == {
        "phase": "teacher", "grid": "2x2 (replicas x stages)", "schedule": "1f1b", "hosts": HOSTS,
        "predicted_bubble": 0.125,
    }  # fmt: skip
    assert other["measured_bubble"] == bubble(written()) == pytest.approx(0.475, abs=1e-6)


def test_it_reads_back(tmp_path):
    path = tmp_path / "teacher.json"
    path.write_bytes(to_json(written()))
    found = read_trace(path)
    assert (found.phase, found.schedule, found.grid, found.hosts) == ("teacher", "1f1b", Grid(4, 2), tuple(HOSTS))
    again = tmp_path / "again.json"
    again.write_bytes(to_json(found))
    assert read_trace(again).events == found.events
    assert [[event.name for event in events] for events in found.events] == [
        ["forward", "send"], ["receive", "weights"], ["forward", "send"], ["receive", "agree"],
    ]  # fmt: skip
    assert found.events[1][1][1:] == pytest.approx((0.01, 0.02, 1, 2, 3), abs=2e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", "no trace of this program"),
        ('{"traceEvents": []}', "no trace of this program"),
        (to_json(written()).decode().replace('"forward"', '"aten::mm"'), "no trace of this program"),
        (to_json(written([[], [], [], []])).decode(), "no trace of this program"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    path = tmp_path / "teacher.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=words) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
