"""The parameters of lowest energy, by an optimizer on gradients: the curve, restarts, the exact value beside it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from app.circuits.adjoint import gradient as adjoint_gradient
from app.circuits.on_device import gradient_on
from app.circuits.shift import shift_gradient
from app.errors import NumbersError
from app.learning.optimizers import OptimizerOptions, make
from app.phases.context import Context
from app.phases.quantum.asked import Asked
from app.phases.quantum.backends import BACKENDS, Statevector
from app.phases.quantum.simulate import described, exact_value
from app.report.progress import Progress
from app.storage.checkpoints import Checkpoints
from app.storage.tree import Tree

Step = Callable[[np.ndarray, int], tuple[float, np.ndarray]]
KEYS_OF_A_STEP = 1 << 32  # numbers of evaluations between the keys of one step's random numbers and the next one's


def minimise(context: Context, asked: Asked) -> dict[str, float]:
    """Walk down to the lowest energy found; its numbers. Collective over: world. Raises NumbersError."""
    phase = asked.phase
    descent = Descent(context, asked, _step(context, asked))
    descent.resume()
    works = asked.mine or phase.gradient_by == "shift"
    begun = time.monotonic()
    if works:
        descent.run()
    context.everyone.barrier_asleep()  # ranks that hold nothing leave their cores to those that do
    if any(context.everyone.allgather(descent.stops)):
        raise context.stopping.stopped(f"the state of {phase.name} at step {len(descent.energies)} is saved")
    seconds = time.monotonic() - begun
    found = context.everyone.bcast(descent.found() if context.speaks else None)
    numbers = {"energy": found.energy} | exact_value(context, asked)
    if "exact" in numbers:
        numbers["difference"] = numbers["energy"] - numbers["exact"]
    context.alone(lambda: _write(context, asked, found, numbers | {"seconds": seconds}))
    _save_state(context, asked, found.values)
    if context.speaks:
        context.log.info("\n".join(_lines(asked, found, numbers, seconds)))
    return {**numbers, "steps": float(len(found.energies) - 1)}


class Found(NamedTuple):
    """The energy found and its values (P,); by step the energies and the largest components of the gradients."""

    energy: float
    values: np.ndarray
    energies: np.ndarray
    sizes: np.ndarray


class Descent:
    """Values of the parameters on their way, the same on every rank that works."""

    def __init__(self, context: Context, asked: Asked, step: Step) -> None:
        self.context, self.asked, self.step = context, asked, step
        self.values = torch.from_numpy(asked.values.copy())
        self.optimizer = make(asked.phase.optimizer, [("parameters", self.values)], OptimizerOptions())
        self.energies: list[float] = []
        self.sizes: list[float] = []
        self.best = asked.values.copy()
        self.checkpoints = Checkpoints(context.folder.checkpoints(asked.phase.name))
        self.saved = time.monotonic()
        self.stops = False
        self.workers = context.everyone if asked.phase.gradient_by == "shift" else asked.group

    def resume(self) -> None:
        """Go on from the newest whole checkpoint. Collective over: world."""
        context = self.context
        stored = context.together(self.checkpoints.newest)
        for problem in self.checkpoints.passed_over:
            context.log.warn(f"a damaged checkpoint is passed over: {problem.reason}")
        if stored is None:
            return
        tree = stored.tree
        context.together(lambda: self.optimizer.load_(tree["optimizer"]))  # type: ignore[arg-type]
        self.values.copy_(torch.as_tensor(tree["values"]))
        self.best = np.array(tree["best"])
        self.energies, self.sizes = list(np.asarray(tree["energies"])), list(np.asarray(tree["sizes"]))
        context.log.info(f"goes on from its checkpoint at step {stored.step}")

    def run(self) -> None:
        """The steps that are left, and the energy after the last one. Collective over: ranks that work."""
        phase, context = self.asked.phase, self.context
        every_s = context.plan.input.run.log_seconds
        done = len(self.energies)
        with Progress(context.log, phase.name, steps=phase.steps + 1, done=done, every_s=every_s) as progress:
            while len(self.energies) <= phase.steps:
                number = len(self.energies)
                context.watchdog.place(phase.name, 0, number)
                begun = time.monotonic()
                energy, slope = self.step(self.values.numpy(), number)
                size = float(np.abs(slope).max())
                context.stopping.took("step", time.monotonic() - begun)
                self._note(energy, size)
                progress.update(0, number, 1, energy)
                if size <= phase.tolerance or number == phase.steps:
                    break
                self.optimizer.step_([torch.from_numpy(slope)], phase.rate)
                with context.watchdog.operation("agreement whether to stop"):
                    self.stops = context.stopping.agreed(self.workers)
                self._save_when_due(number + 1)
                if self.stops:
                    break

    def found(self) -> Found:
        """The curve, and the values of the lowest energy; of samples the last ones, as the lowest is a lucky one."""
        lowest = len(self.energies) - 1 if self.asked.phase.shots else int(np.argmin(self.energies))
        values = self.values.numpy() if self.asked.phase.shots else self.best
        return Found(self.energies[lowest], values.copy(), np.array(self.energies), np.array(self.sizes))

    def _note(self, energy: float, size: float) -> None:
        if not np.isfinite(energy) or not np.isfinite(size):
            raise NumbersError(
                f'[[phase]] "{self.asked.phase.name}": the energy is {energy} at step {len(self.energies)};'
                " try a smaller rate."
            ).on_every_rank()
        if not self.energies or energy < min(self.energies):
            self.best = self.values.numpy().copy()
        self.energies.append(energy)
        self.sizes.append(size)

    def _save_when_due(self, step: int) -> None:
        phase = self.asked.phase
        due = bool(phase.checkpoint_steps) and step % phase.checkpoint_steps == 0
        late = bool(phase.checkpoint_minutes) and time.monotonic() - self.saved >= 60 * phase.checkpoint_minutes
        if not self.context.speaks or not (due or late or self.stops):
            return
        tree: Tree = {
            "values": self.values.numpy(),
            "best": self.best,
            "optimizer": self.optimizer.state_tree(),
            "energies": np.array(self.energies),
            "sizes": np.array(self.sizes),
        }
        provenance = self.context.provenance_of(phase.name)
        self.checkpoints.write(tree, provenance=provenance, phase=phase.name, epoch=0, step=step)
        self.saved = time.monotonic()


def _step(context: Context, asked: Asked) -> Step:
    """How energies and gradients are computed."""
    phase, observable = asked.phase, asked.observable
    assert observable is not None
    if phase.gradient_by == "adjoint":
        threads = context.plan.input.run.threads or context.world.threads

        def by_adjoint(values: np.ndarray, number: int) -> tuple[float, np.ndarray]:
            if asked.device is not None:
                return gradient_on(asked.circuit, values.tolist(), observable, phase.precision, asked.device)
            return adjoint_gradient(asked.circuit, values.tolist(), observable, phase.precision, asked.group, threads)

        return by_adjoint
    backend, seed = BACKENDS[phase.backend](context, asked), context.plan.input.run.seed

    def by_shift(values: np.ndarray, number: int) -> tuple[float, np.ndarray]:
        key = seed + number * KEYS_OF_A_STEP
        return shift_gradient(
            asked.circuit,
            values.tolist(),
            lambda circuit, evaluation: backend.energy(circuit, observable, key + (evaluation << 12)),
            context.everyone,
        )

    return by_shift


def _save_state(context: Context, asked: Asked, values: np.ndarray) -> None:
    """The state of the values found, where it is wanted. Collective over: world."""
    if not asked.phase.save_state:
        return
    if asked.mine:
        without = asked.phase.model_copy(update={"observable": None, "shots": 0, "probabilities": ()})
        Statevector(context, asked._replace(phase=without, observable=None, values=values)).simulate()
    context.everyone.barrier_asleep()


def _write(context: Context, asked: Asked, found: Found, numbers: dict[str, float]) -> None:
    steps: Tree = {"energy": found.energies, "largest_gradient": found.sizes}
    own: Tree = {"gradient": asked.phase.gradient_by, "values": found.values, "steps": steps}
    table: Tree = described(asked) | own | dict(numbers)
    context.results.update({"phases": {asked.phase.name: table}}, context.provenance_of(asked.phase.name))


def _lines(asked: Asked, found: Found, numbers: dict[str, float], seconds: float) -> list[str]:
    phase, circuit = asked.phase, asked.circuit
    steps = len(found.energies) - 1
    lines = [
        f"{phase.name}: {circuit.qubits} qubits, {circuit.parameters} parameters, {steps} steps of {phase.optimizer} by"
        f" {phase.gradient_by} in {seconds:.3g} s",
        f"  energy             {numbers['energy']:+.10f}",
    ]
    if "exact" in numbers:
        lines += [f"  exact              {numbers['exact']:+.10f}", f"  difference         {numbers['difference']:.2e}"]
    return lines
