"""Checkpoints of a phase at work: each stage of the first replica writes its part, any grid goes on from them."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from app.errors import ArtifactError, NumbersError
from app.inputfile.phases import Trains
from app.learning.training import Training
from app.phases.context import Context
from app.storage.background import Background
from app.storage.checkpoints import Checkpoints, StoredCheckpoint
from app.storage.tree import Tree

LONG_S = 1.0  # a wait for the disk that is worth a word


class Saving:
    """Writes and finds the checkpoints of one phase on one rank.

    The state is copied, and a thread writes the copy while training goes on. Where [grid] memory bounds what a rank
    holds there is no copy, and training waits.
    """

    def __init__(self, context: Context, phase: Trains, training: Training, folder: Path) -> None:
        self._context, self._phase, self._training = context, phase, training
        self._checkpoints = Checkpoints(folder)
        self._saved = time.monotonic()
        self._writer = Background()
        self._unfinished: tuple[int, int] | None = None
        self._copy: dict[str, torch.Tensor] = {}
        self._warned = False

    def resume(self, loaded: Callable[[], None]) -> None:
        """Go on from the newest whole checkpoint, and then call `loaded`. Collective over: world."""
        context, training = self._context, self._training
        stored = context.together(lambda: self._checkpoints.newest(keep=self._keep()))
        for problem in self._checkpoints.passed_over:
            context.log.warn(f"a damaged checkpoint is passed over: {problem.reason}")
        place = (stored.epoch, stored.step) if stored else (None, None)
        context.alone(lambda: self._checkpoints.drop(*place))  # parts of a set that a killed run did not finish
        if stored is not None:
            context.together(lambda: self._load_(stored))
            loaded()
        position = (training.epoch, training.step)
        if len(set(context.world.allgather(position))) > 1:
            raise NumbersError(
                "ranks found different checkpoints; is the run folder on a file system that all share?"
            ).on_every_rank()
        if stored is not None:
            context.log.info(f"goes on from its checkpoint at epoch {position[0] + 1}, step {position[1]}")

    def save_when_due(self, steps: int) -> None:
        """Begin a checkpoint when the phase says so; steps: done by now. Collective over: pipeline."""
        phase, context = self._phase, self._context
        if context.replica > 0:
            return
        self._writer.check()
        due = bool(phase.checkpoint_steps) and steps % phase.checkpoint_steps == 0
        if not due and phase.checkpoint_minutes:
            due = self._late(60 * phase.checkpoint_minutes)
        if due:
            self._begin()
            self._saved = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint, and wait for it. Collective over: pipeline."""
        if self._context.replica == 0:
            self._begin()
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint that was begun is whole. Collective over: pipeline."""
        if self._unfinished is None:
            return
        place, self._unfinished = self._unfinished, None
        seconds = self._writer.wait()
        if seconds is not None:
            self._context.stopping.took("save", seconds)
        self._whole(place)

    def close(self) -> None:
        """Finish, and end the thread. Collective over: pipeline."""
        self.finish()
        self._writer.close()

    def _late(self, seconds: float) -> bool:
        """By the clock of the first stage."""
        late = time.monotonic() - self._saved >= seconds
        if self._context.plan.grid.stages == 1:
            return late
        with self._context.watchdog.operation("agreement whether a checkpoint is due"):
            return self._context.stage_group.bcast(late)

    def _begin(self) -> None:
        begun = time.monotonic()
        self.finish()
        self._warn_of_waiting(time.monotonic() - begun)
        training = self._training
        self._unfinished = (training.epoch, training.step)
        if self._context.plan.input.grid.memory is None:
            self._writer.start(self._write_of(training.copy(self._copy)))
        else:
            self._write_of(training.tree())()

    def _write_of(self, tree: Tree) -> Callable[[], object]:
        context, phase, training = self._context, self._phase, self._training
        return partial(
            self._checkpoints.write,
            tree,
            provenance=context.provenance_of(phase.name),
            phase=phase.name,
            epoch=training.epoch,
            step=training.step,
            part=context.stage,
            parts=context.plan.grid.stages,
        )

    def _whole(self, place: tuple[int, int]) -> None:
        """A set of parts is whole when all stages have written theirs."""
        context, stages = self._context, self._context.plan.grid.stages
        if stages == 1:
            return
        with context.watchdog.operation("checkpoint of the other stages"):
            context.stage_group.barrier()
        if context.speaks:
            self._checkpoints.drop(*place, stages)

    def _warn_of_waiting(self, seconds: float) -> None:
        if seconds > LONG_S and not self._warned:
            self._warned = True
            self._context.log.warn(
                f"{self._phase.name}: a checkpoint was due before the last one was written; training waited"
                f" {seconds:.1f} s for the disk. What to try: more checkpoint_steps or checkpoint_minutes, or a faster"
                " file system."
            )

    def _load_(self, stored: StoredCheckpoint) -> None:
        try:
            self._training.load_(stored.tree)
        except ArtifactError as error:
            raise ArtifactError(
                *(f"{stored.path}: {problem}" for problem in error.problems),
                "What to try: put the network back as it was when this phase began, choose another [run] folder, or"
                " start over with --fresh.",
            ) from None

    def _keep(self) -> Callable[[tuple[str, ...]], bool] | None:
        """Of tensors by name, this stage's; all, and so also what belongs to no layer, where it holds all layers."""
        if self._context.plan.grid.stages == 1:
            return None
        names, tables = self._training.names(), self._training.tables()
        return lambda place: len(place) < 2 or place[-2] not in tables or place[-1] in names
