"""The last word of a run."""

from app.storage.outcome import LastWord, read_outcome


def test_said_and_read(tmp_path):
    path = tmp_path / "outcome.json"
    word = LastWord("17.2", "teacher")
    word.say("done", 0, "")
    assert read_outcome(path) is None, "it is not known where"
    word.known(path)
    word.say("stopped", 75, "stopped: a\nb")
    found = read_outcome(path)
    assert (found.state, found.code, found.life, found.until, found.text) == (
        "stopped",
        75,
        "17.2",
        "teacher",
        "stopped: a\nb",
    )
    word.begin(path)
    assert read_outcome(path) is None
    word.begin(path)  # there is none, which is no trouble


def test_a_failure_is_said_whatever_happens(tmp_path):
    word = LastWord("", "")
    word.known(tmp_path / "missing" / "outcome.json")
    word.failed(1, "the disk is full")
    word.known(tmp_path / "outcome.json")
    word.failed(1, "the disk is full")
    assert read_outcome(tmp_path / "outcome.json").state == "failed"


def test_what_is_no_last_word(tmp_path):
    path = tmp_path / "outcome.json"
    for text in ("", "{", "[]", "{}", '{"state": "done"}'):
        path.write_text(text)
        assert read_outcome(path) is None
