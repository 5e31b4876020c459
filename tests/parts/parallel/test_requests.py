"""Signals are noted at once, while the main thread waits."""

import subprocess
import sys
from pathlib import Path

# The main thread waits; the news is told by another one, and before the main thread goes on.
WAITS = """
import os, signal, sys, threading, time
from app.parallel.requests import Requests, to_stderr
arrived = threading.Event()
def tell(name):
    to_stderr(f"told {name}")
    arrived.set()
requests = Requests(tell)
lock = threading.Lock()
lock.acquire()
def other():
    os.kill(os.getpid(), int(sys.argv[1]))
    to_stderr(f"seen while it waits: {arrived.wait(20)} {requests.asked}")
    lock.release()
threading.Thread(target=other).start()
lock.acquire()
requests.ignore()
os.kill(os.getpid(), int(sys.argv[1]))
print("still there")
"""


def waits(number):
    return subprocess.run(
        [sys.executable, "-c", WAITS, str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )


def test_noted_at_once_and_ignored_at_the_end():
    for number, name in ((10, "SIGUSR1"), (15, "SIGTERM")):
        done = waits(number)
        assert done.stderr.splitlines() == [f"told {name}", f"seen while it waits: True {name}"]
        assert (done.returncode, done.stdout) == (0, "still there\n")
