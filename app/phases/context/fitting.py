"""Training a network in a phase: epochs of steps, validation after each, the best network kept, resumable."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from app.data.batches import Batch
from app.errors import InputError, NumbersError
from app.inputfile.phases import Trains
from app.learning.batch_statistics import needs_two_samples
from app.learning.evaluation import evaluate
from app.learning.losses import LossOptions, loss
from app.learning.optimizers import Optimizer, OptimizerOptions, make
from app.learning.pipeline import Loss, Pipeline
from app.learning.randomness import LayerRandomness
from app.learning.rates import Schedule, rate
from app.learning.step import TrainStep
from app.learning.training import Training, checksum, columns
from app.phases.context import Context
from app.phases.context.cutting import expected_bubble
from app.phases.context.networks import BuiltNetwork
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import metrics_of, read_batches, sum_of
from app.phases.context.saving import Saving
from app.phases.context.sums import canonical, close_sums, make_sums
from app.phases.context.timeline import Timeline
from app.plan.microbatches import leaves_single, sizes_without_single, steps_per_epoch
from app.plan.plan import loss_of
from app.report.age import age_s
from app.report.progress import Progress
from app.report.timers import spread, spread_line
from app.storage.tree import Tree

SHOWN = ("loss", "validation_loss", "validation_accuracy", "validation_rmse", "validation_r2")


class How(NamedTuple):
    """What may differ from phase to phase.

    title: in the log, and of the random numbers. loss: of outputs and targets as `read` gives them. read: the batches
    of an epoch, from a step on. after_step: called when the weights have moved, with the rate and the share of all
    steps that is done. last: the last network is handed on, whatever `keep` and `patience` say. place: of the tables in
    run.h5. checkpoints: the folder of the resumable states.
    """

    title: str
    epochs: int
    loss: Loss
    read: Callable[[int, int], Iterator[Batch]]
    after_step: Callable[[float, float], None]
    last: bool
    place: tuple[str, ...]
    checkpoints: Path


def plainly(context: Context, phase: Trains) -> How:
    """As the train phase does it: the phase's own loss, on the training part."""

    def read(epoch: int, start_step: int) -> Iterator[Batch]:
        return read_batches(context, phase, "train", epoch=epoch, start_step=start_step)

    return How(
        phase.name,
        phase.epochs,
        loss(loss_of(phase, context.plan.input.data.task), LossOptions(phase.label_smoothing)),
        read,
        lambda rate, progress: None,
        False,
        ("phases", phase.name),
        context.folder.checkpoints(phase.name),
    )


class Fit:
    """One network in training on one rank. Collective over: world, all of it."""

    def __init__(self, context: Context, phase: Trains, built: BuiltNetwork, how: How) -> None:
        given = context.plan.input
        network = built.network.train()
        self.context, self.phase, self.built, self.how = context, phase, built, how
        self.training = Training(network, _optimizer(phase, canonical(network, built.ties)), phase.monitor)
        self.timeline = Timeline(context, phase, expected_bubble(context, phase, built.cut))
        self.pipeline = make_pipeline(context, built, how.loss, self.timeline.recorder)
        self.sums = make_sums(context, built)
        numbers = built.numbers(self.pipeline.arrangement.held)
        self.step = TrainStep(
            self.pipeline,
            self.training.optimizer,
            self.sums,
            LayerRandomness(network, given.run.seed, how.title, numbers),
            phase.clip_norm,
            context.timers,
            context.watchdog,
            built.masks,
            context.stopping.asked,
        )
        self.samples = context.data.split.count("train")
        self.steps = steps_per_epoch(self.samples, phase.batch_size)
        self.schedule = _schedule(phase, self.steps)
        self.saving = Saving(context, phase, self.training, how.checkpoints)
        self.reported = time.monotonic()
        self.stepped = False
        refuse_single_samples(context, phase, self.pipeline)

    def run(self) -> None:
        """Train to the end, from the newest checkpoint where there is one. Raises NumbersError when it diverges."""
        context, training, how = self.context, self.training, self.how
        self.saving.resume(self.step.restart_)
        done = training.epoch * self.steps + training.step
        if done:
            self._write_results()  # tables end where the checkpoint was taken, whatever came after it before
        every_s = context.plan.input.run.log_seconds
        with Progress(
            context.log, how.title, steps=self.steps, epochs=how.epochs, done=done, every_s=every_s
        ) as progress:
            patience = 0 if how.last else self.phase.patience
            while training.epoch < how.epochs and not training.out_of_patience(patience):
                self._epoch(progress)
        self.timeline.write()
        self._write_results()
        self.close()

    def close(self) -> None:
        """Give back what training took. Collective over: world."""
        self.saving.close()
        close_sums(self.sums)
        self.pipeline.close()

    @property
    def best(self) -> bool:
        """Whether the network of another epoch than the last may be handed on."""
        return self.phase.keep == "best" and not self.how.last and self.training.best_epoch >= 0

    def weights(self) -> dict[str, torch.Tensor]:
        """Of this rank's layers, those handed on."""
        return self.training.best_weights() if self.best else self.training.weights()

    def row(self) -> dict[str, float]:
        """Of the epoch whose network is handed on."""
        return self.training.rows[self.training.best_epoch if self.best else -1]

    def samples_per_s(self) -> float:
        """Median over the epochs."""
        speeds = sorted(timing["samples_per_s"] for timing in self.training.timings)
        return speeds[len(speeds) // 2]

    def _epoch(self, progress: Progress) -> None:
        """The rest of the current epoch, its validation and its report."""
        context, training, phase = self.context, self.training, self.phase
        begun = time.monotonic()
        first = training.step
        for batch in self.how.read(training.epoch, first):
            context.watchdog.place(self.how.title, training.epoch, batch.step)
            at, step_begun = self._rate(batch.step), time.monotonic()
            result = self.step(batch, training.epoch, at)
            self.how.after_step(at, (training.epoch * self.steps + batch.step + 1) / (self.how.epochs * self.steps))
            self._say_first_step()
            training.step_losses.append(result.loss)
            training.step = batch.step + 1
            progress.update(training.epoch, batch.step, batch.size, result.loss)
            context.stopping.took("step", time.monotonic() - step_begun)
            if result.stop:
                self._stop()
            self.saving.save_when_due(training.epoch * self.steps + training.step)
            self.timeline.step_done()
        samples_per_s = max(0, self.samples - first * phase.batch_size) / (time.monotonic() - begun)
        self._compare_replicas()
        row = {"epoch": training.epoch + 1, "rate": self._rate(self.steps - 1), "loss": self._epoch_loss()}
        row |= {f"validation_{name}": value for name, value in self._validate().items()}
        better = training.finish_epoch(row)
        self._report(row, samples_per_s, better)

    def _stop(self) -> None:
        """Save the state after the step just done, and end the run. Collective over: world. Raises Stopped."""
        training = self.training
        with self.context.watchdog.operation("checkpoint before stopping"):
            self.saving.save()
        raise self.context.stopping.stopped(
            f"the state of {self.how.title} at epoch {training.epoch + 1}, step {training.step}, is saved"
        )

    def _compare_replicas(self) -> None:
        """Replicas hold the same bits, or the numbers of this run mean nothing. Collective over: world."""
        context, stages = self.context, self.context.plan.grid.stages
        with context.watchdog.operation("comparison of the replicas' weights"):
            found = context.world.allgather(checksum(self.training.weights()))
        differing = [found[stage::stages] for stage in range(stages) if len(set(found[stage::stages])) > 1]
        if differing:
            raise NumbersError(
                f"the replicas' weights differ after epoch {self.training.epoch + 1} (checksums by replica:"
                f" {differing[0]}). A rank has computed or received wrong numbers: suspect its host's memory, or the"
                " MPI library; checkpoints of earlier epochs are from before."
            ).on_every_rank()

    def _say_first_step(self) -> None:
        if not self.stepped:
            self.stepped = True
            self.context.log.debug(f"first step done {age_s():.2f} s after this rank was started")

    def _rate(self, step: int) -> float:
        return rate(self.schedule, self.training.epoch * self.steps + step, self.how.epochs * self.steps)

    def _epoch_loss(self) -> float:
        """Mean over the samples: every batch is full but perhaps the last."""
        losses = np.array(self.training.step_losses[-self.steps :])
        sizes = np.full(self.steps, self.phase.batch_size)
        sizes[-1] = self.samples - (self.steps - 1) * self.phase.batch_size
        return float(losses @ sizes / self.samples)

    def _validate(self) -> dict[str, float]:
        context = self.context
        if not context.data.split.count("validation"):
            return {}
        found = evaluate(
            self.pipeline,
            read_batches(context, self.phase, "validation"),
            metrics_of(context, ()),
            sum_of(context, "sum of validation metrics"),
        )
        return {name: value for name, value in found.items() if isinstance(value, float)}

    def _report(self, row: dict[str, float], samples_per_s: float, better: bool) -> None:
        """Where the epoch's time went over the ranks, and its line in the log. Collective over: world."""
        context, training = self.context, self.training
        with context.watchdog.operation("gathering of times"):
            per_rank = context.world.allgather(context.timers.totals())
        context.timers.reset()
        spreads = spread(per_rank, context.world.hosts)
        training.timings.append(
            {"epoch": row["epoch"], "samples_per_s": samples_per_s}
            | {f"{name}_{kind}": getattr(s, kind) for name, s in spreads.items() for kind in ("min", "median", "max")}
        )
        if not context.speaks:
            return
        numbers = "  ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in row if name in SHOWN)
        context.log.info(
            f"{self.how.title} epoch {row['epoch']}/{self.how.epochs}  {numbers}  rate {row['rate']:.2e}"
            f"  {samples_per_s:,.0f} samples/s{'  best so far' if better else ''}\n{spread_line(spreads)}"
        )
        if time.monotonic() - self.reported >= context.plan.input.run.log_seconds:
            self._write_results()

    def _write_results(self) -> None:
        """The phase's tables in run.h5; whole, since a checkpoint carries the history too."""
        training, context = self.training, self.context
        if context.speaks:
            table: Tree = {
                "kind": self.phase.kind,
                "gradients": next(iter(self.sums.chunks.values())).reason,
                "best_epoch": training.best_epoch + 1,
                "epochs": dict(columns(training.rows)),
                "timings": dict(columns(training.timings)),
                "steps": {"loss": np.array(training.step_losses)},
            }
            context.results.update(nested(self.how.place, table), context.provenance_of(self.phase.name))
        self.reported = time.monotonic()


def nested(place: tuple[str, ...], table: Tree) -> Tree:
    """A tree with the table at this place."""
    for name in reversed(place):
        table = {name: table}
    return table


def refuse_single_samples(context: Context, phase: Trains, pipeline: Pipeline) -> None:
    """Torch's batch norm fails on a microbatch of one sample; found here, before it does so at the end of an epoch.

    Collective over: world. Raises InputError.
    """
    samples, batch, microbatch = context.data.split.count("train"), phase.batch_size, phase.microbatch
    if not leaves_single(samples, batch, microbatch):
        return
    own: list[str] = []
    for number, chunk in pipeline.chunks.items():
        shape, dtype = pipeline.entering[number]
        own += needs_two_samples(chunk, torch.zeros((1, *shape), dtype=dtype, device=context.device))
    layers = [name for found in context.world.allgather(own) for name in found]
    if layers:
        sizes = sizes_without_single(samples, batch, microbatch, context.plan.grid.replicas)
        advice = "batch_size = {}, microbatch_size = {}".format(*sizes) if sizes else "other sizes"
        raise InputError(
            f'[[phase]] "{phase.name}": {samples} training samples in batches of {batch} and microbatches of'
            f" {microbatch} leave a microbatch of 1 sample, but batch normalisation (layer {layers[0]!r}) needs 2 or"
            f" more; try {advice}."
        ).on_every_rank()


def _optimizer(phase: Trains, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
    numbers = OptimizerOptions(
        momentum=phase.momentum,
        nesterov=phase.nesterov,
        betas=phase.betas,
        epsilon=phase.epsilon,
        weight_decay=phase.weight_decay,
        decay_all=phase.decay_all,
    )
    return make(phase.optimizer, list(parameters.items()), numbers)


def _schedule(phase: Trains, steps: int) -> Schedule:
    """The phase's epochs as steps."""
    return Schedule(
        kind=phase.schedule,
        rate=phase.rate,
        min_rate=phase.min_rate,
        warmup=round(phase.warmup_epochs * steps),
        milestones=tuple(epoch * steps for epoch in phase.milestones),
        factor=phase.factor,
        power=phase.power,
    )
