"""One function per kind of phase."""

from collections.abc import Callable

from app.phases import distill, evaluate, prune, quantum, train
from app.phases.context import Context
from app.plan.plan import PhasePlan

PHASES: dict[str, Callable[[Context, PhasePlan], dict[str, float]]] = {
    "train": train.run,
    "prune": prune.run,
    "distill": distill.run,
    "evaluate": evaluate.run,
    "quantum": quantum.run,
}
