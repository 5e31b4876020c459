"""Gradients of some training batches, from which the Taylor importance of units and of connections is taken."""

from collections.abc import Iterator
from itertools import islice

from app.inputfile.phases import Prune
from app.phases.context import Context
from app.phases.context.fitting import Fit, plainly
from app.phases.context.networks import BuiltNetwork
from app.phases.prune.result import Place


def each_gradient(context: Context, phase: Prune, place: Place, built: BuiltNetwork) -> Iterator[None]:
    """After each step the network's parameters hold the gradients of one batch, summed over the replicas.

    At most `batches` of them, and none is left behind at the end. Collective over: world.
    """
    how = plainly(context, phase)._replace(title=f"{place.title} importance")
    fit = Fit(context, phase, built, how)
    for batch in islice(how.read(0, 0), phase.batches):
        context.watchdog.place(place.title, 0, batch.step)
        fit.step.only_gradients(batch, 0)
        yield
    fit.close()
    for parameter in built.network.parameters():
        parameter.grad = None
