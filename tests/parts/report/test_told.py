"""What the log of a run tells."""

from app.report.page.told import complaints, entries, seconds

START = "2026-11-22 {} info    phalanx 0.1.0: a.toml -> results\n                            2 ranks\n"


def line(time, text, level="info"):
    return f"2026-11-22 {time} {level:<7} {text}\n"


def test_a_block_is_one_entry():
    found = list(entries(START.format("10:00:00") + line("10:00:01", "careful", "warning")))
    assert [(entry.when[11:], entry.level, entry.text) for entry in found] == [
        ("10:00:00", "info", "phalanx 0.1.0: a.toml -> results\n2 ranks"),
        ("10:00:01", "warning", "careful"),
    ]
    assert list(entries("no log at all\n\x00")) == []


def test_the_time_of_phases_over_two_starts():
    log = (
        START.format("10:00:00")
        + line("10:00:01", "teacher: train begins")
        + line("10:00:11", "student: distill begins")
        + line("10:00:14", "student epoch 1/9  loss 1")
        + START.format("12:00:00")
        + line("12:00:02", "student: distill begins")
        + line("12:00:07", "done; results in results")
    )
    assert seconds(entries(log), ["teacher", "student"]) == {"teacher": 10.0, "student": 8.0}


def test_a_run_at_work_has_come_to_its_last_line():
    log = line("10:00:01", "teacher: train begins") + line("10:00:05", "teacher epoch 1/9  loss 1")
    assert seconds(entries(log), ["teacher"]) == {"teacher": 4.0}
    assert seconds(entries(log), ["other"]) == {}


def test_the_last_complaints():
    log = "".join(line("10:00:01", f"number {count}", "error" if count % 2 else "warning") for count in range(70))
    shown, count = complaints(entries(log + line("10:00:02", "fine")))
    assert (len(shown), count) == (50, 70)
    assert shown[-1].text == "number 69"
