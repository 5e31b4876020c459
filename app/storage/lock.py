"""One run folder, one job: a file that names who is at work there, which a dead job's file does not block."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import ArtifactError, MachineError
from app.storage import atomic_write

BEAT_S = 10.0  # between two signs of life
SILENCE_S = 35.0  # without one for so long nobody is there


class Lock:
    """Held from `take` to `leave` by rank 0. Collective over: none."""

    def __init__(self, job: str, job_runs: Callable[[str], bool | None]) -> None:
        """job: the number that the batch system gave this job, "" for none. job_runs: whether another one lives."""
        self.path: Path | None = None
        self._job, self._job_runs = job, job_runs
        self._own = {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "job": job,
            "since": _now(),
            **process(os.getpid()),
        }
        self._end = threading.Event()

    def take(self, path: Path, say: Callable[[str], None]) -> None:
        """Raises ArtifactError naming the other run. say: called before a wait of up to half a minute."""
        content = json.dumps(self._own).encode()
        own = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            own.touch(0o644)  # nobody else may take the folder away
            own.write_bytes(content)
            while not _linked(own, path):
                self._clear_way(path, say)
        except OSError as error:
            raise MachineError(atomic_write.explain(error, path, len(content))) from error
        finally:
            with contextlib.suppress(OSError):
                own.unlink()
        self.path = path
        threading.Thread(target=self._beat, args=(path,), name="lock", daemon=True).start()

    def leave(self) -> None:
        """Give the folder free, if it was taken and is still ours."""
        self._end.set()
        if self.path is not None and read(self.path) == self._own:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _clear_way(self, path: Path, say: Callable[[str], None]) -> None:
        """Remove the file of a run that is dead. Raises ArtifactError when it is not."""
        other = read(path)
        if other is None:
            return  # gone just now
        if self._lives(path, other, say):
            raise ArtifactError(
                f"{path.parent}: another run is at work there: {named(other)}. What to try: wait for its end, or choose"
                " another [run] folder."
            )
        if read(path) == other:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _lives(self, path: Path, other: dict[str, Any], say: Callable[[str], None]) -> bool:
        known = _lives_here(other)
        if known is None and other.get("job"):
            known = False if other["job"] == self._job else self._job_runs(str(other["job"]))
        if known is not None:
            return known
        say(f"{path}: left by {named(other)}; looking for {SILENCE_S:.0f} s whether it is still at work.")
        return _changes(path, SILENCE_S)

    def _beat(self, path: Path) -> None:
        while not self._end.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(path)


def read(path: Path) -> dict[str, Any] | None:
    """Who holds a folder; None where nobody does. A file that says nothing is one of an unknown run."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def held(path: Path) -> dict[str, Any] | None:
    """Who is at work in a folder, as far as can be seen at once; None: nobody, or a run that is dead."""
    found = read(path)
    return None if found is None or _lives_here(found) is False else found


def named(holder: dict[str, Any]) -> str:
    """Words for a holder."""
    words = [f"process {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}"]
    words += [f"job {holder['job']}"] if holder.get("job") else []
    return ", ".join([*words, f"since {holder.get('since', 'an unknown time')}"])


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, which is taken or not in one step on every file system, NFS too."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _lives_here(holder: dict[str, Any]) -> bool | None:
    """Whether the process lives, where it would be seen from here: the same boot and the same numbers of processes."""
    here = process(holder.get("pid"))
    if not here["boot"] or (holder.get("boot"), holder.get("names")) != (here["boot"], here["names"]):
        return None
    return here["started"] != "" and here["started"] == holder.get("started")


def process(pid: Any) -> dict[str, str]:
    """What tells a process from all others: the boot, the space of numbers of processes, when it began ("": gone)."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    names = ""
    with contextlib.suppress(OSError):
        names = os.readlink("/proc/self/ns/pid")
    return {"boot": boot, "names": names, "started": _started(pid)}


def _started(pid: Any) -> str:
    """When a process began, in ticks since boot: numbers of processes are given again. "" where there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError, ValueError):
        return ""
    return "" if state == "Z" else fields[18]


def _changes(path: Path, seconds: float) -> bool:
    """Whether a file gets a sign of life; compared with itself, as hosts' clocks differ."""
    before, end = _time_of(path), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1.0)
        now = _time_of(path)
        if now is None:
            return False
        if now != before:
            return True
    return False


def _time_of(path: Path) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
