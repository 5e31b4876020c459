"""Statistics of batch norm after a cut."""

from itertools import islice

import numpy as np
from torch import nn

from app.inputfile.phases import Prune
from app.learning.batch_statistics import recalibrate_
from app.learning.losses import loss
from app.phases.context import Context
from app.phases.context.fitting import refuse_single_samples
from app.phases.context.networks import BuiltNetwork
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import read_batches
from app.plan.plan import LOSSES_OF


def recalibrate(context: Context, phase: Prune, built: BuiltNetwork) -> None:
    """Take batch norm's running statistics anew from some training batches. Collective over: world.

    Raises InputError where a microbatch would be one sample, of which there are no statistics.
    """
    has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in built.network.modules())
    with context.watchdog.operation("agreement on batch norm"):
        if not any(context.world.allgather(has_statistics)):
            return
    pipeline = make_pipeline(context, built, loss(LOSSES_OF[context.plan.input.data.task][0]))
    refuse_single_samples(context, phase, pipeline)

    def play() -> None:
        for batch in islice(read_batches(context, phase, "train"), phase.batches):
            for _ in pipeline.evaluate(batch):
                pass

    def sum_(array: np.ndarray) -> None:
        with context.watchdog.operation("sum of batch norm's statistics"):
            context.data_group.sum_(array)

    recalibrate_(built.network, play, sum_)
    pipeline.close()
    built.network.train()
