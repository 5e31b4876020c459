"""What is wrong with a prune phase, as far as the input file tells."""

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.networks import NetworkTable
from app.inputfile.phases import Prune
from app.inputfile.sentences import nearest
from app.plan.distillation import layer_names


def prune_problems(phase: Prune, table: NetworkTable, given: Input) -> list[str]:
    """table: the [network] table of the network that is pruned."""
    try:
        names = layer_names(table, given)
    except InputError:  # told elsewhere, where it is made
        return []
    return [
        f"keep_layers: the network has no layer {name!r}{nearest(name, names)}"
        for name in dict.fromkeys(phase.keep_layers)
        if names is not None and name not in names
    ]
