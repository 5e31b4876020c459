"""The train phase: a new network, or that of an earlier phase, trained on the training part."""

from typing import Any

from app.inputfile.phases import Train
from app.learning.training import load_weights_
from app.phases.context import Context
from app.phases.context.fitting import Fit, plainly
from app.phases.context.networks import new_network, stored_network
from app.phases.context.reading import announce_reading
from app.phases.context.storing import store_network
from app.plan.plan import PhasePlan


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint where there is one; the metrics of the network handed on.

    Collective over: world. Raises NumbersError when training diverges.
    """
    phase: Train = plan.phase  # type: ignore[assignment]
    announce_reading(context, phase)
    if plan.network is None:
        built = new_network(context, phase, plan.table)
    else:
        built = stored_network(context, phase, context.folder.network(plan.network))
    fit = Fit(context, phase, built, plainly(context, phase))
    fit.run()
    load_weights_(built.network, fit.weights())
    from app.phases.context.appraising import appraise, record  # nothing is to come before the first step without need

    found = appraise(context, phase, built)
    store_network(context, phase.name, fit.weights(), built, {**fit.row(), "appraisal": found._asdict()})
    record(context, phase.name, None, found)
    return fit.row() | {"samples_per_s": fit.samples_per_s()}
