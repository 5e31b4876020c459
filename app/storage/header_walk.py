"""Untrusted HDF5 files looked through in a process of its own, before this one opens them.

A damaged header can crash HDF5, fill the memory or send it round for ever: there that ends a child with limits of time
and memory, and is told as what is wrong with the file. It costs the start of a Python with h5py, 0.2 to 0.3 s, for any
number of files, and is for rank 0 alone. The child is started, not forked: MPI does not survive a fork.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app import errors
from app.errors import DataError, MachineError, PhalanxError
from app.report.log import escaped

CPU_S = 10  # of one file, and more for large ones: an index of chunks, or a checksum, is read whole
CPU_S_PER_GIB = 4
WALL_FACTOR = 6  # file systems are slow at times
MEMORY_BYTES = 1 << 30  # beyond what Python with h5py takes
DEATHS = 20  # files that end their child, before the others are no longer looked at
DEEPEST = 8  # virtual datasets of virtual datasets
_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from app.storage.header_walk import work; work()"
# An MPI or a batch system would take the child for a rank by its variables.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR", "HDF5_PLUGIN_PATH", "HDF5_USE_FILE_LOCKING")


class Task(NamedTuple):
    """One file to look at. what: "data" with the names of its datasets, "artifact" with its kind, "describe"."""

    what: str
    path: Path
    words: tuple[str, ...] = ()


def check_data(files: Sequence[Path], names: Sequence[str]) -> None:
    """Look through the headers of data files as far as these datasets need them, and of the files they take rows from.

    Collective over: none (rank 0). Raises DataError with what is wrong with any of the files.
    """
    problems = [
        text for found in problems_of([Task("data", Path(file), tuple(names)) for file in files]) for text in found
    ]
    if problems:
        raise DataError(*problems)


def problems_of(tasks: Sequence[Task]) -> list[tuple[str, ...]]:
    """What is wrong with each file; () with a good one. Collective over: none. Raises MachineError."""
    return [tuple(answer.get("problems", ())) for answer in _ask(tasks)]


def check_artifact(path: Path, kind: str) -> None:
    """Look through a file of another run, checksum and all, as far as a reader would.

    Collective over: none (rank 0). Raises ArtifactError, DataError.
    """
    _answered(_ask([Task("artifact", Path(path), (kind,))])[0])


def described(path: Path) -> list[str]:
    """The lines of describe.describe_here. Collective over: none. Raises ArtifactError, DataError."""
    return [escaped(line) for line in _answered(_ask([Task("describe", Path(path))])[0])["lines"]]


def _answered(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("problems"):
        raise getattr(errors, answer["error"])(*answer["problems"])
    return answer


def _ask(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The child's answer to each task; the one that ended it is answered here, and the others are asked again."""
    answers: list[dict[str, Any]] = []
    deaths = 0
    while len(answers) < len(tasks):
        rest = tasks[len(answers) :]
        if deaths == DEATHS:
            text = f"{rest[0].path}: was not looked at after {DEATHS} damaged files, nor were {len(rest) - 1} more."
            return [*answers, _refusal(text), *({} for _ in rest[1:])]
        code, found = _child(rest)
        answers += found
        if len(found) < len(rest):
            deaths += 1
            answers.append(_refusal(f"{rest[len(found)].path}: is damaged: {_cause(code)}{_AGAIN}"))
    return answers


def _child(tasks: Sequence[Task]) -> tuple[int, list[dict[str, Any]]]:
    """One child's exit code and its answers. Raises MachineError when it cannot work at all."""
    path = json.dumps([os.path.abspath(entry) for entry in sys.path if entry])
    given = json.dumps([CPU_S, [(what, str(file), words) for what, file, words in tasks]])
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", _CODE, path],
        input=given.encode("utf-8", "surrogateescape"),
        capture_output=True,
        env=environ,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    found = [json.loads(line) for line in lines[:-1]]  # what follows the last line break is a torn line
    if not found:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise MachineError(
            f"the check of untrusted files could not be started ({last or f'exit code {done.returncode}'}). What to"
            f" try: {sys.executable} -c 'import h5py', and see what it says."
        )
    return done.returncode, found[1:]


def _cause(code: int) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return "HDF5 did not come to an end with its headers"
    if code < 0:
        return f"HDF5 crashes on its headers ({signal.Signals(-code).name})"
    return f"HDF5 gave up on its headers (exit code {code})"


_AGAIN = ". What to try: copy it again from where it came, or make it again."


def _refusal(text: str) -> dict[str, Any]:
    return {"error": "DataError", "problems": [escaped(text)]}


def work() -> None:
    """The child: read tasks from stdin, answer each in a line of JSON on stdout. Collective over: none."""
    import h5py  # noqa: F401  before the limits, which count what comes after it

    cpu_s, given = json.loads(sys.stdin.buffer.read())
    tasks = [Task(what, Path(path), tuple(words)) for what, path, words in given]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _limit_memory()
    _say({"begins": True})
    for task in tasks:
        _limit_time(task.path, cpu_s)
        _say(_done(task))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _done(task: Task) -> dict[str, Any]:
    try:
        return {"lines": _WAYS[task.what](task)}
    except PhalanxError as error:
        return {"error": type(error).__name__, "problems": [escaped(problem) for problem in error.problems]}
    except MemoryError:
        return _refusal(f"{task.path}: is damaged: its headers want more than {MEMORY_BYTES >> 20} MiB{_AGAIN}")
    except Exception as error:  # whatever a stranger's file leads to, it is about that file
        return _refusal(f"{task.path}: is damaged: {' '.join(str(error).split())[:200]}{_AGAIN}")


def _limit_memory() -> None:
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return  # not Linux: the limits of time have to do
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))


def _limit_time(path: Path, least: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        more = least + CPU_S_PER_GIB * path.stat().st_size // (1 << 30)
    except OSError:
        more = least
    limit = int(used.ru_utime + used.ru_stime) + more
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    signal.alarm(WALL_FACTOR * more)


def _look_at_data(task: Task) -> list[str]:
    """Open the datasets as a reader does, with all of their chunks' index and what they take rows from."""
    seen: set[tuple[Path, str]] = set()
    for name in task.words:
        _look_at_dataset(task.path, name, (), seen)
    return []


def _look_at_dataset(file: Path, name: str, above: tuple[tuple[Path, str], ...], seen: set[tuple[Path, str]]) -> None:
    """above: the virtual datasets that take rows from this one. seen: what was looked at."""
    from app.storage.opening import find_dataset, open_file
    from app.storage.untrusted import check_chunks, sources

    this = (file.resolve(), name.strip("/"))
    if this in above or len(above) > DEEPEST:
        raise DataError(
            f"{file}: the virtual dataset '{name}' takes rows from itself, or from others more than {DEEPEST} deep,"
            " which HDF5 cannot read. What to try: write the rows into one dataset."
        )
    if this in seen:
        return
    seen.add(this)
    with open_file(file) as handle:
        dataset = find_dataset(file, handle, name, 0)
        check_chunks(file, dataset, name)
        for other, inside in sources(file, dataset, name):
            _look_at_dataset(other, inside, (*above, this), seen)


def _look_at_artifact(task: Task) -> list[str]:
    from app.storage import artifact_file

    with artifact_file.opened(task.path, kind=task.words[0]):
        return []


def _describe(task: Task) -> list[str]:
    from app.storage.describe import describe_here

    return describe_here(task.path)


_WAYS = {"data": _look_at_data, "artifact": _look_at_artifact, "describe": _describe}
