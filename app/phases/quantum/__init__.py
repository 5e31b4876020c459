"""The quantum phase: a circuit on a state vector over the ranks, or the parameters of lowest energy."""

from collections.abc import Callable

from app.phases.context import Context
from app.phases.quantum.asked import Asked, asked_for
from app.phases.quantum.minimise import minimise
from app.phases.quantum.simulate import simulate
from app.plan.plan import PhasePlan

TASKS: dict[str, Callable[[Context, Asked], dict[str, float]]] = {"simulate": simulate, "minimise": minimise}


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """The numbers that say most; all of them are written to run.h5. Collective over: world. Raises InputError."""
    asked = asked_for(context, plan)
    return TASKS[asked.phase.task](context, asked)
