"""Watchdogs of several ranks in one process: who is late, who is missing, and that the job is ended."""

import errno
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.parallel import watchdog
from app.parallel.lateness import LATE, Notes, State, diagnosis
from app.parallel.watchdog import Watchdog

LIMIT_S = 0.4
ENOUGH_S = 20.0


class Rank:
    """A watchdog with what it said and whether it aborted."""

    def __init__(self, rank, size, folder, limit_s=LIMIT_S):
        self.said: list[str] = []
        self.aborted = threading.Event()
        self.dog = Watchdog(rank, size, f"host{rank}", folder, limit_s, self.said.append, self._abort)
        self.dog.start()

    def _abort(self, code):
        assert code == 1
        self.aborted.set()


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + ENOUGH_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Silence is told from slowness sooner."""
    monkeypatch.setattr(watchdog, "SILENCE_S", 2.0)


@pytest.fixture
def ranks(tmp_path):
    """Makes ranks, and stops them at the end."""
    made = []

    def make(count, limit_s=LIMIT_S):
        made.extend(Rank(rank, count, tmp_path / "watchdog", limit_s) for rank in range(count))
        return made

    yield make
    for rank in made:
        rank.dog.stop()


def test_a_rank_that_does_not_come_is_named_with_what_it_does(ranks, capfd):
    first, second, third = ranks(3)
    for rank in (first, second, third):
        rank.dog.place("teacher", 3, 12)
    with third.dog.operation("broadcast"):
        pass
    with first.dog.operation("all-reduce"), second.dog.operation("all-reduce"):
        assert wait_for(lambda: first.aborted.is_set() or second.aborted.is_set())
    text = "\n".join(first.said + second.said)
    assert '"all-reduce" has taken' in text
    assert "2 of 3 ranks wait in it: 0 (host0), 1 (host1)" in text
    assert 'rank 2 on host2 has not reached it: it is in no operation, the last it finished was "broadcast"' in text
    assert "phase teacher, epoch 3, step 12" in text
    assert "stacks of rank 2" in capfd.readouterr().err
    assert not third.aborted.is_set()


def test_ranks_in_different_operations_are_told_apart(ranks):
    first, second = ranks(2)
    with first.dog.operation("all-reduce"), second.dog.operation("gather of times"):
        assert wait_for(lambda: first.aborted.is_set() or second.aborted.is_set())
    text = "\n".join(first.said or second.said)
    assert 'it is in "gather of times"' in text or 'it is in "all-reduce"' in text


def test_a_rank_that_cannot_answer_is_named(tmp_path):
    first = Rank(0, 2, tmp_path / "watchdog")
    with first.dog.operation("all-reduce"):
        assert wait_for(first.aborted.is_set)
    first.dog.stop()
    assert any(line.startswith("no answer from rank 1:") for line in first.said)


def test_the_next_rank_reports_when_the_first_late_one_is_stopped(tmp_path):
    folder = tmp_path / "watchdog"
    stopped = Notes(folder, 0, 2)
    stopped.exchange(State(0, "host0", "all-reduce", 9.0, "nothing", 0, "phase a", 9.0), LATE)
    second = Rank(1, 2, folder)
    with second.dog.operation("all-reduce"):
        assert wait_for(second.aborted.is_set)
    second.dog.stop()


def test_a_patient_rank_lets_others_compute(ranks, tmp_path):
    """Also one that is late to nothing, and again and again."""
    first, second = ranks(2)
    with first.dog.waiting("end of what others compute", patient=True):
        time.sleep(8 * LIMIT_S)
    assert not first.aborted.is_set()
    assert not second.aborted.is_set()
    assert not first.said
    assert wait_for(lambda: not any((tmp_path / "watchdog").glob("*")))


def test_a_patient_rank_ends_the_job_when_another_falls_silent(ranks):
    first, second = ranks(2)
    second.dog.place("ground", 0, 3)
    with first.dog.waiting("end of what others compute", patient=True):
        time.sleep(4 * LIMIT_S)
        assert not first.aborted.is_set()
        second.dog._end.set()  # as if it were stopped: it answers no more, and takes no earlier answer back
        assert wait_for(first.aborted.is_set)
    assert any(line.startswith("no answer from rank 1:") for line in first.said)


def test_a_rank_that_falls_silent_after_its_answer_is_named_too(tmp_path):
    folder = tmp_path / "watchdog"
    first, second = Rank(0, 3, folder), Rank(1, 3, folder)  # the third never answers
    with first.dog.waiting("end of what others compute", patient=True):
        assert wait_for((folder / "here-1").exists)
        second.dog._end.set()
        assert wait_for(first.aborted.is_set)
    for rank in (first, second):
        rank.dog.stop()
    assert any(line.startswith("no answer from rank 1, 2:") for line in first.said)


def test_a_patient_rank_concludes_nothing_from_a_full_disk(ranks, monkeypatch):
    def no_space(path, text):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_space)
    first, second = ranks(2)
    with first.dog.waiting("end of what others compute", patient=True):
        time.sleep(8 * LIMIT_S)
        assert not first.aborted.is_set()
        second.dog._end.set()
        assert wait_for(first.aborted.is_set)


def test_a_patient_rank_concludes_nothing_where_it_cannot_ask(tmp_path):
    (tmp_path / "file").write_text("in the way")
    first = Rank(0, 2, tmp_path / "file")
    with first.dog.waiting("end of what others compute", patient=True):
        time.sleep(8 * LIMIT_S)
    assert not first.aborted.is_set()
    first.dog.stop()


def test_a_wait_within_an_operation_is_the_operation(ranks):
    first, _ = ranks(2)
    with first.dog.operation("sum of the loss"), first.dog.waiting("sum over ranks", patient=True):
        assert 'in "sum of the loss"' in first.dog.where()
        assert wait_for(first.aborted.is_set)
    assert '"sum of the loss" has taken' in "\n".join(first.said)


def test_where_names_the_operation(tmp_path):
    dog = Watchdog(0, 2, "host0", tmp_path / "watchdog", 0, print, print)
    dog.place("net", 3, 12)
    assert dog.where() == "phase net, epoch 3, step 12"
    with dog.operation("all-reduce"):
        assert re.fullmatch(r'phase net, epoch 3, step 12, in "all-reduce" for \d+\.\d s', dog.where())
    assert dog.where() == 'phase net, epoch 3, step 12, after "all-reduce"'
    with pytest.raises(ValueError), dog.operation("epoch"), dog.operation("broadcast"):
        raise ValueError("bad luck")
    assert dog.where() == 'phase net, epoch 3, step 12, in "broadcast"'
    dog.place("net", 3, 13)
    assert dog.where() == 'phase net, epoch 3, step 13, after "all-reduce"'


def test_slow_but_not_late_is_left_alone(ranks):
    first, second = ranks(2, limit_s=3.0)
    for _ in range(8):
        with first.dog.operation("all-reduce"), second.dog.operation("all-reduce"):
            time.sleep(0.5)
    assert not (first.aborted.is_set())
    assert not (second.aborted.is_set())
    assert not (first.said)
    assert not (second.said)


def test_zero_turns_it_off(ranks):
    first, _ = ranks(2, limit_s=0)
    with first.dog.operation("all-reduce"):
        time.sleep(0.2)
    assert first.dog._thread is None


def test_nothing_is_written_in_the_hot_path_and_nothing_stays(ranks, tmp_path):
    first, second = ranks(2)
    for _ in range(100):
        with first.dog.operation("all-reduce"):
            pass
    assert not (tmp_path / "watchdog").exists()
    with first.dog.operation("all-reduce"):
        assert wait_for(first.aborted.is_set)
    first.dog.stop()
    second.dog.stop()
    assert not (tmp_path / "watchdog").exists()


def test_notes_of_a_larger_run_before_are_not_believed(tmp_path):
    for rank in (0, 1, 5):
        Notes(tmp_path / "w", rank, 6).exchange(State(rank, "h", "x", 9.0, "", 0, "", 9.0), LATE)
    for rank in (0, 1):
        Notes(tmp_path / "w", rank, 2).clear()
    assert Notes(tmp_path / "w", 0, 2).late() == []
    assert not (tmp_path / "w").exists()


def test_a_folder_that_cannot_be_written_still_ends_the_job(tmp_path):
    (tmp_path / "file").write_text("in the way")
    first = Rank(0, 2, tmp_path / "file")
    with first.dog.operation("all-reduce"):
        assert wait_for(first.aborted.is_set)
    first.dog.stop()


def test_a_damaged_note_is_passed_over(tmp_path):
    notes = Notes(tmp_path / "w", 0, 2)
    mine = State(0, "h", "x", 9.0, "", 0, "", 9.0)
    notes.exchange(mine, LATE)
    (tmp_path / "w" / "here-1").write_text('{"half": ')
    assert list(notes.exchange(mine, LATE)) == [0]
    (tmp_path / "w" / "here-1").write_text(json.dumps(mine._replace(rank=1)))
    assert sorted(notes.exchange(mine, LATE)) == [0, 1]


def test_all_in_the_same_operation_but_at_other_places():
    one = State(0, "a", "all-reduce", 9.0, "all-reduce", 12, "phase t, epoch 0, step 3", 9.0)
    other = one._replace(rank=1, number=13, place="phase t, epoch 0, step 4")
    text = "\n".join(diagnosis({0: one, 1: other}, one, 2, 5.0))
    assert "not in the same one" in text
    assert "12, 13" in text
    same = "\n".join(diagnosis({0: one, 1: one._replace(rank=1)}, one, 2, 5.0))
    assert "different sizes" in same
