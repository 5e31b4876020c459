"""One thing written at a time while the caller goes on."""

import threading

import pytest

from app.storage.background import Background


def test_the_caller_goes_on():
    writer, go, done = Background(), threading.Event(), []
    writer.start(lambda: go.wait(20) and done.append(1))
    assert not done
    writer.check()
    go.set()
    assert writer.wait() >= 0
    assert done == [1]
    assert writer.wait() is None
    writer.close()


def check_for_ever(writer):
    while True:
        writer.check()


def test_what_goes_wrong_is_raised_once():
    writer, failed = Background(), threading.Event()

    def fail():
        failed.set()
        raise OSError("full")

    writer.start(fail)
    failed.wait(20)
    with pytest.raises(OSError, match="full"):  # as soon as the thread has come to its end
        check_for_ever(writer)
    with pytest.raises(OSError, match="full"):
        writer.wait()
    writer.check()
    writer.close()


def test_nothing_is_begun_before_the_last_is_waited_for():
    writer = Background()
    writer.start(lambda: None)
    with pytest.raises(RuntimeError):
        writer.start(lambda: None)
    writer.wait()
    writer.start(lambda: None)
    writer.close()
