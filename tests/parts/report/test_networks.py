"""Networks side by side: the table, and the picture."""

import math
import random

from app.report.appraisal import Appraisal
from app.report.networks import compared, exported_rows, network_rows, overview
from app.report.networks_picture import _LABEL_PT, picture

TEACHER = Appraisal(123_456, 123_456, 500_000, 2_500_000, 0.0012, 0.004, 16, 4000.0, math.nan, 0.1, 0.97)


def phase(kind, appraisal=None, **more):
    stored = {"appraisal": {"quality": "accuracy", "after": appraisal._asdict()}} if appraisal else {}
    return {"kind": kind, **stored, **more}


def tree():
    pruned = TEACHER._replace(parameters=30_000, nonzero=30_000, latency_n_s=0.001, accuracy=0.95)
    return {
        "phases": {
            "teacher": phase("train", TEACHER),
            "validated": phase("evaluate", part="validation", network="teacher", metrics={"accuracy": 0.5}),
            "pruned": phase("prune", pruned),
            "older": phase("train"),
            "tested": phase("evaluate", part="test", network="teacher", metrics={"accuracy": 0.9, "confusion": []}),
            "all": phase(
                "evaluate",
                part="test",
                networks={"pruned": {"metrics": {"accuracy": 0.93}}, "older": {"metrics": {"accuracy": 0.8}}},
            ),
        }
    }


def test_the_networks_of_a_run():
    found = {row.name: row for row in network_rows(tree())}
    assert list(found) == ["teacher", "pruned"]
    assert found["teacher"].appraisal == TEACHER
    assert found["teacher"].metrics == {"accuracy": 0.9}
    assert found["pruned"].metrics == {"accuracy": 0.93}
    named = network_rows(tree(), ["older", "teacher", "elsewhere"])
    assert [row.name for row in named] == ["older", "teacher"]
    assert named[0].appraisal is None
    assert network_rows({}) == []


def test_exported_files_are_networks_too():
    found = tree()
    found["phases"]["deployed"] = {
        "kind": "export",
        "part": "test",
        "network": "teacher",
        "files": {"names": ["deployed.onnx", "deployed.int8.onnx"], "bytes": [1000, 400]},
        "metrics": {"network": {"accuracy": 0.9}, "onnx": {"accuracy": 0.9}, "int8": {"accuracy": 0.89}},
        "latency": {"samples": [1, 16], "seconds": {"network": [1, 2], "onnx": [0.5, 0.75], "int8": [0.25, 0.5]}},
    }
    onnx, int8 = exported_rows(found)
    assert (onnx.name, int8.name) == ("deployed.onnx", "deployed.int8.onnx")
    assert (onnx.metrics, int8.metrics) == ({"accuracy": 0.9}, {"accuracy": 0.89})
    assert (int8.appraisal.bytes, int8.appraisal.latency_1_s, int8.appraisal.latency_n_s) == (400, 0.25, 0.5)
    assert (int8.appraisal.batch_n, int8.appraisal.samples_per_s) == (16, 32)
    assert {row.name: row.metrics for row in network_rows(found)}["teacher"] == {
        "accuracy": 0.9
    }  # evaluated, not exported
    del found["phases"]["deployed"]["latency"]
    assert exported_rows(found) == []
    assert exported_rows({}) == []


def test_the_overview_has_what_is_known():
    head, rule, *rows = overview(network_rows(tree(), ["teacher", "pruned", "older"]))
    assert head.split("  ")[0] == "network"
    assert "joules a sample" not in head
    assert "not 0" not in head
    assert "ms for 16" in head
    assert set(rule) == {"-", " "}
    assert rows[0].split() == [
        "teacher",
        "train",
        "123,456",
        "2.5",
        "M",
        "488.3",
        "KiB",
        "1.20",
        "4.00",
        "4,000",
        "0.9700",
        "0.9000",
    ]
    assert rows[2].split() == ["older", "train", "-", "-", "-", "-", "-", "-", "-", "0.8000"]
    assert len({len(line) for line in (head, rule, *rows)}) == 1
    assert overview([]) == []


def test_other_batches_are_told_apart_and_removed_connections_shown():
    changed = tree()
    thin = TEACHER._replace(nonzero=1000, batch_n=32)
    changed["phases"]["pruned"] = phase("prune", thin)
    head, _, first, second = overview(network_rows(changed))
    assert "ms for a batch" in head
    assert "not 0" in head
    assert "4.00 for 16" in first
    assert "4.00 for 32" in second


def test_comparing_shows_every_metric():
    head, _, first, second = compared(
        [
            row._replace(metrics={"loss": 0.25, "accuracy": 0.5} | more)
            for row, more in zip(network_rows(tree()), ({"top2_accuracy": 1.0}, {}), strict=True)
        ]
    )
    assert head.endswith("loss  accuracy  top2 accuracy")
    assert first.split()[-3:] == ["0.2500", "0.5000", "1.0000"]
    assert second.split()[-3:] == ["0.2500", "0.5000", "-"]


def test_the_picture_is_a_png_of_ours():
    found = picture(network_rows(tree()))
    assert found.startswith(b"\x89PNG")
    assert b"tEXtSoftware\0phalanx" in found


def test_no_picture_without_numbers():
    assert picture([]) is None
    assert picture(network_rows(tree(), ["older"])) is None
    nothing_validated = {"phases": {"net": phase("train", TEACHER._replace(accuracy=math.nan))}}
    assert picture(network_rows(nothing_validated)) is None
    not_timed = TEACHER._replace(latency_n_s=math.nan)
    assert picture(network_rows({"phases": {"net": phase("train", not_timed)}})) is not None


def test_names_cover_neither_each_other_nor_points(monkeypatch):
    """Thirty networks, as matplotlib itself says where their names are."""
    from matplotlib.figure import Figure

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: kept.append(self))
    random.seed(2)
    phases = {
        f"network-{number}": phase(
            "prune", TEACHER._replace(latency_n_s=10 ** random.uniform(-3, -1), accuracy=random.uniform(0.9, 0.97))
        )
        for number in range(30)
    }
    picture(network_rows({"phases": phases}))
    (figure,) = kept
    (axes,) = figure.axes
    texts = [text for text in axes.texts if text.get_fontsize() == _LABEL_PT]
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in texts]
    assert sorted(text.get_text() for text in texts) == sorted(phases)
    assert axes.get_xscale() == "log"
    inside = axes.get_window_extent()
    for number, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[number + 1 :])
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
