"""The preprocess phase."""

from app.phases.context import Context
from app.plan.plan import PhasePlan


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """Collective over: world."""
    raise NotImplementedError
