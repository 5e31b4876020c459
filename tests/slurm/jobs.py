"""Jobs on the cluster of the tests: submitted as a user does, watched, and their input files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.runs import fragile, outcome
from tests.slurm.cluster import LIMIT_S, Cluster

SCRIPTS = Path(__file__).parents[2] / "slurm"
TWO_NODES = ("-N", "2", "--ntasks-per-node=1")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "DEADLINE", "OUT_OF_MEMORY")
STEP_S = 0.2  # at least, with SLEEP_S on two ranks: each has two of the four microbatches of a step
SLEEP_S = STEP_S / 2
GOES_ON = r"goes on from its checkpoint at epoch \d+, step \d+"


def write(folder: Path, *, steps: int, sleep_s: float = SLEEP_S) -> Path:
    """The input file of a network that sleeps while it trains; a checkpoint every second step."""
    folder.mkdir(exist_ok=True)
    return fragile.write(folder, sleep_s, epochs=-(-steps // 5))


class Job:
    """One job, or one task of an array: NUMBER_TASK."""

    def __init__(self, cluster: Cluster, number: str, output: Path) -> None:
        self.cluster, self.number, self._output = cluster, number, output

    def shown(self) -> dict[str, str]:
        """What Slurm says about it; its state only once it has really left its nodes."""
        return dict(re.findall(r"(\w+)=(\S*)", self.cluster.command("scontrol", "-o", "show", "job", self.number)))

    def state(self) -> str:
        """One word, such as RUNNING."""
        return self.shown()["JobState"]

    def restarts(self) -> int:
        """How often it was requeued."""
        return int(self.shown()["Restarts"])

    def code(self) -> int:
        """The exit code of the script."""
        return int(self.shown()["ExitCode"].partition(":")[0])

    def text(self) -> str:
        """Its output up to now."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def until(self, pattern: str, count: int = 1, limit_s: float = LIMIT_S) -> None:
        """Wait until so many places of its output fit the pattern."""
        self._until(lambda: len(re.findall(pattern, self.text())) >= count, f"{count} of {pattern!r}", limit_s)

    def until_state(self, *states: str, limit_s: float = LIMIT_S) -> str:
        """Wait for one of these states."""
        self._until(lambda: self.state() in states, " or ".join(states), limit_s)
        return self.state()

    def end(self, limit_s: float = LIMIT_S) -> str:
        """Wait for its end: the state."""
        return self.until_state(*ENDED, limit_s=limit_s)

    def completed(self, limit_s: float = LIMIT_S) -> str:
        """Its output, at an end that must be a good one."""
        assert self.end(limit_s) == "COMPLETED", self.text()
        return self.text()

    def signal(self, name: str) -> None:
        """To the batch script alone, as --signal=B:NAME does near the time limit."""
        self.cluster.command("scancel", "--batch", f"--signal={name}", self.number)

    def cancel(self) -> None:
        """scancel."""
        self.cluster.command("scancel", self.number)

    def _until(self, arrived, what: str, limit_s: float) -> None:
        try:
            self.cluster.until(arrived, what, limit_s)
        except TimeoutError as error:
            raise TimeoutError(f"job {self.number}: {error}\n-- its output\n{self.text()}") from None


def submit(
    cluster: Cluster,
    file: Path,
    options: Sequence[str] = TWO_NODES,
    more: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Job:
    """sbatch of slurm/run.sh from the folder of the input file; more: arguments of phalanx run."""
    folder = file.parent
    number = sbatch(cluster, folder, *options, str(SCRIPTS / "run.sh"), file.name, *more, environ=environ)
    return Job(cluster, number, folder / f"phalanx-{number}.out")


def sbatch(cluster: Cluster, folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> str:
    """The number of the job."""
    ended = cluster.tried("sbatch", "--parsable", *words, folder=folder, environ=environ)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def assert_same(file: Path, straight: Path) -> None:
    """Run folders with bitwise the same losses, networks and metrics."""
    folder = file.with_suffix("")
    outcome.assert_same_run(folder, straight)
    outcome.assert_same_bits(outcome.metrics(folder), outcome.metrics(straight))
