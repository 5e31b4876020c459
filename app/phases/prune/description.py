"""A network as plan.pruning wants it: the sizes of its tensors, and groups of units that shorten them."""

from math import prod

from app.learning.pruning.groups import Found
from app.learning.pruning.scores import is_parameter
from app.learning.pruning.units import UnitGroup
from app.plan import pruning

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def sizes(found: Found) -> list[pruning.Sized]:
    """Of all tensors but running statistics; numbers with several names count once."""
    own = [
        pruning.Sized(name, shape, found.uses.get(name, 0), name not in found.aliases)
        for name, shape in found.shapes.items()
        if not name.endswith(_BUFFERS)
    ]
    return own + [pruning.Sized(name, (heads,), uses, False) for name, (heads, uses) in found.products.items()]


def planned(group: UnitGroup, found: Found, round_to: int, most: float) -> pruning.Group:
    """What goes with each unit; widths are multiples of `round_to`, and at most the share `most` of the units goes."""
    dims = tuple(pruning.Shortened(m.tensor, m.dim, m.places.shape[1]) for m in group.members)
    dims += (pruning.Shortened(group.name, 0, 1),) * (group.name in found.products)
    fewest = max(1, -(-group.units * round(1000 * (1 - most)) // 1000))
    return pruning.Group(group.name, group.units, pruning.multiple_of(group.units, group.width, round_to), fewest, dims)


def numbers(group: UnitGroup, found: Found) -> int:
    """Of one unit, in all its tensors."""
    members = [member for member in group.members if is_parameter(member)]
    return sum(prod(found.shapes[m.tensor]) // found.shapes[m.tensor][m.dim] * m.places.shape[1] for m in members)
