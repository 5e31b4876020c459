"""One function per kind of phase."""

from collections.abc import Callable

from app.phases import distill, evaluate, export, predict, preprocess, prune, quantum, train
from app.phases.context import Context
from app.plan.plan import PhasePlan

PHASES: dict[str, Callable[[Context, PhasePlan], dict[str, float]]] = {
    "preprocess": preprocess.run,
    "train": train.run,
    "prune": prune.run,
    "distill": distill.run,
    "evaluate": evaluate.run,
    "export": export.run,
    "predict": predict.run,
    "quantum": quantum.run,
}
