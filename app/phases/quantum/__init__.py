"""The quantum phase: a circuit on a state vector over the ranks, or the parameters of lowest energy."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.phases.context import Context
from app.plan.plan import PhasePlan

if TYPE_CHECKING:
    from app.phases.quantum.asked import Asked


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """The numbers that say most; all of them are written to run.h5. Collective over: world. Raises InputError."""
    # here, because the simulator loads numba, half a second that runs without quantum phases need not wait for
    from app.phases.quantum.asked import asked_for
    from app.phases.quantum.minimise import minimise
    from app.phases.quantum.simulate import simulate

    tasks: dict[str, Callable[[Context, Asked], dict[str, float]]] = {"simulate": simulate, "minimise": minimise}
    asked = asked_for(context, plan)
    return tasks[asked.phase.task](context, asked)
