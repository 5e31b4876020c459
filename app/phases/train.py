"""The train phase: epochs of steps, validation after each, the best network kept, resumable at every checkpoint."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from app.errors import ArtifactError, InputError, NumbersError
from app.inputfile.phases import Train
from app.learning.batch_statistics import needs_two_samples
from app.learning.evaluation import evaluate
from app.learning.losses import LossOptions, loss
from app.learning.optimizers import Optimizer, OptimizerOptions, make
from app.learning.randomness import LayerRandomness
from app.learning.rates import Schedule, rate
from app.learning.step import Forward, TrainStep
from app.learning.training import Training, checksum, columns
from app.parallel.gradients import GradientSum, choose
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork, new_network, store_network, stored_network
from app.phases.context.reading import announce_reading, metrics_of, read_batches, sum_of
from app.plan.microbatches import leaves_single, sizes_without_single, steps_per_epoch
from app.plan.plan import PhasePlan, loss_of
from app.report.age import age_s
from app.report.progress import Progress
from app.report.timers import spread, spread_line
from app.storage.checkpoints import Checkpoints, StoredCheckpoint
from app.storage.tree import Tree

SHOWN = ("loss", "validation_loss", "validation_accuracy", "validation_rmse", "validation_r2")


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint where there is one; the metrics of the network handed on.

    Collective over: world. Raises NumbersError when training diverges.
    """
    phase: Train = plan.phase  # type: ignore[assignment]
    announce_reading(context, phase)
    built = stored_network(context, plan.network) if plan.network else new_network(context)
    _refuse_single_samples(context, phase, built.network)
    work = _Work(context, phase, built)
    work.resume()
    training = work.training
    done = training.epoch * work.steps + training.step
    every_s = context.plan.input.run.log_seconds
    with Progress(
        context.log, phase.name, steps=work.steps, epochs=phase.epochs, done=done, every_s=every_s
    ) as progress:
        while training.epoch < phase.epochs and not training.out_of_patience(phase.patience):
            work.epoch(progress)
    return work.finish()


class _Work:
    """One train phase at work on one rank."""

    def __init__(self, context: Context, phase: Train, built: BuiltNetwork) -> None:
        given = context.plan.input
        network = built.network.train()
        self.context, self.phase, self.built = context, phase, built
        self.training = Training(network, _optimizer(phase, network), phase.monitor)
        sum_of_losses = loss(loss_of(phase, given.data.task), LossOptions(phase.label_smoothing))
        self.forward = Forward(network, sum_of_losses, context.device, given.run.precision == "bf16")
        self.gradient_sum = _gradient_sum(context, network)
        self.step = TrainStep(
            self.forward,
            self.training.optimizer,
            self.gradient_sum,
            LayerRandomness(network, given.run.seed, phase.name),
            phase.clip_norm,
            context.timers,
            context.watchdog,
        )
        self.samples = context.data.split.count("train")
        self.steps = steps_per_epoch(self.samples, phase.batch_size)
        self.schedule = _schedule(phase, self.steps)
        self.checkpoints = Checkpoints(context.folder.checkpoints(phase.name))
        self.saved = self.reported = time.monotonic()
        self.stepped = False

    def resume(self) -> None:
        """Go on from the newest whole checkpoint. Collective over: world."""
        context = self.context
        stored = context.together(self.checkpoints.newest)
        for problem in self.checkpoints.passed_over:
            context.log.warn(f"a damaged checkpoint is passed over: {problem.reason}")
        if stored is not None:
            context.together(lambda: self._load_(stored))
            self.step.restart_()
        position = (self.training.epoch, self.training.step)
        if len(set(context.world.allgather(position))) > 1:
            raise NumbersError(
                "ranks found different checkpoints; is the run folder on a file system that all share?"
            ).on_every_rank()
        if stored is not None:
            context.log.info(f"goes on from its checkpoint at epoch {position[0] + 1}, step {position[1]}")

    def _load_(self, stored: StoredCheckpoint) -> None:
        try:
            self.training.load_(stored.tree)
        except ArtifactError as error:
            raise ArtifactError(
                *(f"{stored.path}: {problem}" for problem in error.problems),
                "What to try: put the network back as it was when this phase began, choose another [run] folder, or"
                " start over with --fresh.",
            ) from None

    def epoch(self, progress: Progress) -> None:
        """The rest of the current epoch, its validation and its report. Collective over: world."""
        context, training, phase = self.context, self.training, self.phase
        begun = time.monotonic()
        first = training.step
        for batch in read_batches(context, phase, "train", epoch=training.epoch, start_step=first):
            context.watchdog.place(phase.name, training.epoch, batch.step)
            result = self.step(batch, training.epoch, self._rate(batch.step))
            self._say_first_step()
            training.step_losses.append(result.loss)
            training.step = batch.step + 1
            progress.update(training.epoch, batch.step, batch.size, result.loss)
            self._save_when_due()
        samples_per_s = max(0, self.samples - first * phase.batch_size) / (time.monotonic() - begun)
        self._compare_replicas()
        row = {"epoch": training.epoch + 1, "rate": self._rate(self.steps - 1), "loss": self._epoch_loss()}
        row |= {f"validation_{name}": value for name, value in self._validate().items()}
        better = training.finish_epoch(row)
        self._report(row, samples_per_s, better)

    def _compare_replicas(self) -> None:
        """Replicas hold the same bits, or the numbers of this run mean nothing. Collective over: data."""
        with self.context.watchdog.operation("comparison of the replicas' weights"):
            found = self.context.data_group.allgather(checksum(self.training.weights()))
        if len(set(found)) > 1:
            raise NumbersError(
                f"the replicas' weights differ after epoch {self.training.epoch + 1} (checksums by replica: {found})."
                " A rank has computed or received wrong numbers: suspect its host's memory, or the MPI library;"
                " checkpoints of earlier epochs are from before."
            ).on_every_rank()

    def _say_first_step(self) -> None:
        if not self.stepped:
            self.stepped = True
            self.context.log.debug(f"first step done {age_s():.2f} s after this rank was started")

    def finish(self) -> dict[str, Any]:
        """Store the network that is handed on; the row of its epoch. Collective over: world."""
        context, training, phase = self.context, self.training, self.phase
        best = phase.keep == "best" and training.best_epoch >= 0
        weights = training.best_weights() if best else training.weights()
        row = training.rows[training.best_epoch if best else -1]
        store_network(context, phase.name, weights, self.built, row)
        self._write_results()
        self.gradient_sum.close()
        speeds = [timing["samples_per_s"] for timing in training.timings]
        return row | {"samples_per_s": sorted(speeds)[len(speeds) // 2]}

    def _rate(self, step: int) -> float:
        return rate(self.schedule, self.training.epoch * self.steps + step, self.phase.epochs * self.steps)

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
            self.forward,
            read_batches(context, self.phase, "validation"),
            metrics_of(context, ()),
            sum_of(context, "sum of validation metrics"),
        )
        return {name: value for name, value in found.items() if isinstance(value, float)}

    def _save_when_due(self) -> None:
        phase, training = self.phase, self.training
        count = training.epoch * self.steps + training.step
        late = phase.checkpoint_minutes and time.monotonic() - self.saved >= 60 * phase.checkpoint_minutes
        if self.context.speaks and (late or (phase.checkpoint_steps and count % phase.checkpoint_steps == 0)):
            provenance = self.context.provenance_of(phase.name)
            self.checkpoints.write(
                training.tree(), provenance=provenance, phase=phase.name, epoch=training.epoch, step=training.step
            )
            self.saved = time.monotonic()

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
            f"{self.phase.name} epoch {row['epoch']}/{self.phase.epochs}  {numbers}  rate {row['rate']:.2e}"
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
                "gradients": self.gradient_sum.reason,
                "best_epoch": training.best_epoch + 1,
                "epochs": dict(columns(training.rows)),
                "timings": dict(columns(training.timings)),
                "steps": {"loss": np.array(training.step_losses)},
            }
            context.results.update({"phases": {self.phase.name: table}}, context.provenance_of(self.phase.name))
        self.reported = time.monotonic()


def _refuse_single_samples(context: Context, phase: Train, network: nn.Module) -> None:
    """Torch's batch norm fails on a microbatch of one sample; found here, before it does so at the end of an epoch.

    Collective over: world. Raises InputError.
    """
    samples, batch, microbatch = context.data.split.count("train"), phase.batch_size, phase.microbatch
    if not leaves_single(samples, batch, microbatch):
        return
    inputs = torch.zeros(1, *context.data.sample_shape, device=context.device)
    layers = needs_two_samples(network, inputs.long() if context.data.transform.tokens else inputs)
    if layers:
        sizes = sizes_without_single(samples, batch, microbatch, context.plan.grid.replicas)
        advice = "batch_size = {}, microbatch_size = {}".format(*sizes) if sizes else "other sizes"
        raise InputError(
            f'[[phase]] "{phase.name}": {samples} training samples in batches of {batch} and microbatches of'
            f" {microbatch} leave a microbatch of 1 sample, but batch normalisation (layer {layers[0]!r}) needs 2 or"
            f" more; try {advice}."
        ).on_every_rank()


def _optimizer(phase: Train, network: nn.Module) -> Optimizer:
    numbers = OptimizerOptions(
        momentum=phase.momentum,
        nesterov=phase.nesterov,
        betas=phase.betas,
        epsilon=phase.epsilon,
        weight_decay=phase.weight_decay,
        decay_all=phase.decay_all,
    )
    return make(phase.optimizer, [(n, p) for n, p in network.named_parameters() if p.requires_grad], numbers)


def _schedule(phase: Train, steps: int) -> Schedule:
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


def _gradient_sum(context: Context, network: nn.Module) -> GradientSum:
    group = context.data_group
    hosts = len(set(group.allgather(context.world.host)))
    chosen = context.together(
        lambda: choose(
            group,
            wanted=context.plan.input.grid.allreduce,
            device_type=context.device.type,
            hosts=hosts,
            sizes=[p.numel() for p in network.parameters()],
        )
    )
    context.log.info(f"gradients are summed by {chosen.reason}")
    return chosen
