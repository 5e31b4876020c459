"""What a phase is given: the plan, the world, the data, the run folder. Made once by run.py."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from app.data.signature import Signature
from app.data.source import Source
from app.data.split import AnySplit
from app.data.statistics import Statistics
from app.data.transform import Transform
from app.errors import PhalanxError
from app.parallel.group import Group
from app.parallel.watchdog import Watchdog
from app.parallel.world import World
from app.phases.context.stopping import Stopping
from app.plan.plan import Plan
from app.report.log import Log
from app.report.timers import Timers
from app.storage.artifact_file import Provenance
from app.storage.results import Results
from app.storage.run_folder import RunFolder

T = TypeVar("T")


@dataclass(frozen=True)
class DataSet:
    """The user's samples: where they are, how they are split, what was measured, how a sample becomes an input."""

    source: Source
    split: AnySplit
    statistics: Statistics
    transform: Transform
    sample_shape: tuple[int, ...]
    outputs: int
    class_names: tuple[str, ...]  # () where they are not known

    def signature(self, inputs: str) -> Signature:
        """What a network trained on the dataset of this name takes and gives."""
        return Signature(inputs, self.source.sample_shape, self.transform, self.outputs, self.class_names)


@dataclass(frozen=True)
class Context:
    """A rank's view of the run."""

    plan: Plan
    input_folder: Path
    world: World
    everyone: Group
    data_group: Group  # the same stage of every replica
    stage_group: Group  # the stages of this replica
    device: torch.device
    known_data: DataSet | None  # None: quantum phases alone
    folder: RunFolder
    results: Results
    provenance: Provenance
    log: Log
    timers: Timers
    watchdog: Watchdog
    stopping: Stopping

    @property
    def data(self) -> DataSet:
        """The user's samples."""
        if self.known_data is None:
            raise RuntimeError("a phase asks for data in a run without a [data] table")
        return self.known_data

    @property
    def replica(self) -> int:
        """This rank's replica."""
        return self.plan.grid.replica(self.world.rank)

    @property
    def stage(self) -> int:
        """This rank's stage."""
        return self.plan.grid.stage(self.world.rank)

    @property
    def wants(self) -> frozenset[str]:
        """What this rank needs of the samples: the first stage inputs, the last one targets."""
        ends = {"inputs": 0, "targets": self.plan.grid.stages - 1}
        return frozenset(name for name, stage in ends.items() if stage == self.stage)

    @property
    def speaks(self) -> bool:
        """Whether this rank writes what all ranks know."""
        return self.world.rank == 0

    def provenance_of(self, phase: str) -> Provenance:
        """The run's provenance with the phase's name."""
        return replace(self.provenance, phase=phase)

    def user_file(self, kind: str) -> str:
        """A network's kind with the user's file, relative to the input file, as an absolute path."""
        file, colon, function = kind.rpartition(":")
        return f"{(self.input_folder / file).resolve()}:{function}" if colon else kind

    def together(self, action: Callable[[], T]) -> T:
        """Every rank does it; a mistake that any rank finds is raised on all. Collective over: world."""
        return self.world.together(action, lambda: self.watchdog.operation("agreement"))

    def apart(self, action: Callable[[], T]) -> T:
        """As `together`, however long it takes each rank: who is done sleeps and leaves its core to the others.

        Collective over: world.
        """
        error, value = None, None
        try:
            value = action()
        except PhalanxError as problem:
            error = problem
        self.everyone.barrier_asleep()

        def again() -> T:
            if error is not None:
                raise error
            return value  # type: ignore[return-value]

        return self.together(again)

    def alone(self, action: Callable[[], object]) -> None:
        """Rank 0 does it while the others wait; its mistake is raised on all. Collective over: world."""
        self.together(action if self.speaks else lambda: None)
