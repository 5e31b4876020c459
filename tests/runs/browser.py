"""A headless Chromium, spoken to over two pipes in its DevTools protocol: opens a page and says what became of it."""

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pytest

LIMIT_S = 90.0  # many times what a start takes, for machines under load
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Opened(NamedTuple):
    """What a page said and asked for while it loaded: console and log entries, errors, addresses but data: ones."""

    messages: list[str]
    requests: list[str]


class Browser:
    """One process; leaving the `with` block ends it."""

    def __init__(self, folder: Path) -> None:
        """folder: for its profile. Skips the test where there is no Chromium."""
        found = next(filter(None, map(shutil.which, NAMES)), None)
        if found is None:
            why = f"needs a Chromium to read pages with: none of {', '.join(NAMES)} is on the PATH"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [
            "bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", found, "--headless",
            "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={folder / 'profile'}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers, self._rest, self._events = itertools.count(1), b"", list[dict[str, Any]]()
        self._session = ""

    def __enter__(self) -> "Browser":
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, page: Path, width: int, height: int = 900) -> Opened:
        """Load a file in a window of this size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._events.clear()
        found = self._ask("Page.navigate", url=page.absolute().as_uri())
        assert "errorText" not in found, found
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events))
        self.value("new Promise(done => setTimeout(done, 200))")  # what comes late
        return Opened(*self._said())

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives on the page, a promise when it is kept."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _said(self) -> tuple[list[str], list[str]]:
        messages, requests = [], []
        for event in self._events:
            told = event["params"]
            match event["method"]:
                case (
                    "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" | "Network.loadingFailed"
                ):
                    messages.append(json.dumps(told))
                case "Network.requestWillBeSent" if not told["request"]["url"].startswith("data:"):
                    requests.append(told["request"]["url"])
        return messages, requests

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        os.write(
            self._out, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        answers = self._until(lambda: [event for event in self._events if event.get("id") == number])
        self._events.remove(answers[0])
        assert "result" in answers[0], answers[0]
        return answers[0]["result"]

    def _until(self, condition: Callable[[], Any]) -> Any:
        """Read messages until the condition holds. Fails when the browser ends or says nothing."""
        end = time.monotonic() + LIMIT_S
        while not (found := condition()):
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the browser said nothing for {LIMIT_S} s"
            piece = os.read(self._in, 1 << 20)
            assert piece, f"the browser ended with code {self._process.wait()}"
            *whole, self._rest = (self._rest + piece).split(b"\0")
            self._events += map(json.loads, whole)
        return found
