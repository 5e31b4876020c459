"""The table at the end of a run."""

from app.report.summary import SummaryRow, duration, summary_table


def test_the_table():
    rows = [
        SummaryRow("teacher", "train", "done", 12.34, 12345.6, {"loss": 0.123456, "accuracy": 0.97}),
        SummaryRow("score", "evaluate", "skipped", None, None, {}),
        SummaryRow("student", "distill", "stopped", 3725.0, 99.5, {"loss": 1e-9}),
    ]
    assert summary_table(rows) == [
        "phase    kind      state       time  samples/s  metrics",
        "-------  --------  -------  -------  ---------  --------------------------",
        "teacher  train     done      12.3 s     12,346  loss 0.1235, accuracy 0.97",
        "score    evaluate  skipped        -          -  -",
        "student  distill   stopped  1:02:05       99.5  loss 1e-09",
    ]


def test_no_phases_no_table():
    assert summary_table([]) == []


def test_names_cannot_move_the_cursor():
    (line,) = summary_table([SummaryRow("a\x1b[2J", "train", "done", 1.0, 1.0, {})])[2:]
    assert "\x1b" not in line
    assert r"a\x1b[2J" in line


def test_only_the_first_metrics_are_shown():
    (line,) = summary_table([SummaryRow("a", "train", "done", 1.0, 1.0, {f"m{n}": n for n in range(9)})])[2:]
    assert line.endswith("m0 0, m1 1, m2 2, m3 3")


def test_counts_are_shown_in_full():
    (line,) = summary_table([SummaryRow("a", "train", "done", 1.0, 1.0, {"records": 1234567.0, "loss": 0.123456})])[2:]
    assert line.endswith("records 1,234,567, loss 0.1235")


def test_durations():
    assert [duration(seconds) for seconds in (0.04, 59.9, 59.99, 61)] == ["0.0 s", "59.9 s", "01:00", "01:01"]
