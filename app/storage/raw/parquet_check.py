"""Parquet files looked through in a process of its own first: some damaged ones end the process that opens them.

As app.storage.header_walk does it for HDF5; for rank 0 alone. It is started, not forked: MPI does not survive a fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import DataError, MachineError
from app.storage.raw.records import stamp

CPU_S = 60
DEATHS = 20  # files that end the process, before the others are no longer looked at
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from app.storage.raw.parquet_check import work; work()"
)
# An MPI or a batch system would take the process for a rank by its variables.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR")


def check(files: Sequence[Path]) -> None:
    """Find the files that are so damaged; what else is wrong with one is found by who opens it.

    Collective over: none (rank 0). Raises DataError, MachineError.
    """
    for file in files:
        stamp(file)
    problems: list[str] = []
    rest = list(files)
    while rest and len(problems) < DEATHS:
        done = _looked_at(rest)
        if done < len(rest):
            text = f"{rest[done]}: is damaged, Arrow crashes on its metadata. What to try: copy or make it again."
            problems.append(text)
        rest = rest[done + 1 :]
    if problems:
        raise DataError(*problems)


def _looked_at(files: Sequence[Path]) -> int:
    """How many files the process has looked at before it ended."""
    path = json.dumps([os.path.abspath(entry) for entry in sys.path if entry])
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", _CODE, path],
        input=json.dumps([str(file) for file in files]).encode("utf-8", "surrogateescape"),
        capture_output=True,
        env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = done.stdout.count(b"\n")
    if not lines:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise MachineError(
            f"the check of Parquet files could not be started ({last or f'exit code {done.returncode}'}). What to try:"
            f" {sys.executable} -c 'import pyarrow.parquet', and see what it says."
        )
    return lines - 1


def work() -> None:
    """The process: a line on stdout once it begins, and one for each file of the list on stdin it has looked at."""
    from app.storage.raw.parquet import contents

    files = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("begins", flush=True)
    for number, file in enumerate(files, 1):
        _limit_time()
        with contextlib.suppress(Exception):  # it is found again, and told, where the file is read
            contents(stamp(Path(file)))
        print(number, flush=True)


def _limit_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = int(used.ru_utime + used.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
