"""What Slurm says about the job this rank runs in: its number, and when its time is up. Standard library only."""

import subprocess
import time
from collections.abc import Mapping
from typing import NamedTuple

ANSWER_S = 10.0  # a controller under load answers late; the run does not wait for it


class Job(NamedTuple):
    """Number of the job (of an array's task, its own), and how often it was requeued."""

    number: str
    restarts: int


def job(environ: Mapping[str, str]) -> Job | None:
    """The job, None outside of one."""
    number = environ.get("SLURM_JOB_ID", "")
    restarts = environ.get("SLURM_RESTART_COUNT", "0")
    return Job(number, int(restarts) if restarts.isdigit() else 0) if number else None


def ends_at(environ: Mapping[str, str], *, ask: bool) -> float | None:
    """When the job's time is up, in seconds since 1970; None without a limit, or where nobody knows.

    ask: the controller, whose answer may have changed since the job began; else it is asked only where the environment
    (Slurm 22.05 and later) does not say it.
    """
    here = job(environ)
    if here is None:
        return None
    said = environ.get("SLURM_JOB_END_TIME", "")
    if ask or not said.isdigit():
        left = _seconds(_answer(["squeue", "--noheader", "--jobs", here.number, "--format", "%L"]))
        if left is not None:
            return time.time() + left
    return float(said) if said.isdigit() else None


def runs(number: str) -> bool | None:
    """Whether a job is there and not at its end; None where Slurm does not answer."""
    answer = _answer(["squeue", "--noheader", "--jobs", number, "--states", "all", "--format", "%T"])
    if answer is None:
        return None
    return answer.split("\n")[0].strip() in ("RUNNING", "SUSPENDED", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT")


def _answer(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode and "Invalid job id" in done.stderr:
        return ""
    return None if done.returncode else done.stdout.strip()


def _seconds(text: str | None) -> float | None:
    """Of DAYS-HOURS:MINUTES:SECONDS, the days and hours may be missing; None of UNLIMITED and other words."""
    days, dash, rest = (text or "").rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return None
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    return float(86_400 * int(days or 0) + total)
