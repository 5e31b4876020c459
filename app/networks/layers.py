"""A network is a list of named layers, each built on its own, so that it can be cut into stages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from app.errors import InputError
from app.inputfile.sentences import nearest


@dataclass(frozen=True)
class Layer:
    """One layer: its name in the network, and how to make it.

    `build` makes one module and is called only for the layers a stage holds. Where the layers come out of one call of
    a user's function, `whole` makes all of them at once and takes the place of `build`. `ties` says which of its
    parameters are parameters of an earlier layer: "linear.weight" of the head is "embedding.elements.weight". What a
    parameter is tied to is not tied itself.
    """

    name: str
    build: Callable[[], nn.Module]
    whole: Callable[[], dict[str, nn.Module]] | None = None
    ties: Mapping[str, str] = field(default_factory=dict)


def ties(layers: Sequence[Layer]) -> dict[str, str]:
    """Full name of each tied parameter -> full name of the parameter of an earlier layer that it is."""
    return {f"{layer.name}.{alias}": owner for layer in layers for alias, owner in layer.ties.items()}


def chosen(layers: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """The layers of these names, in the order that they have; they alone are then the network.

    Of parameters tied to one of a layer that is left out, the first is the owner. Collective over: none. Raises
    InputError: a name that no layer has, twice the same, another order.
    """
    known = [layer.name for layer in layers]
    problems = [f"there is no layer {name!r}{nearest(name, known)}" for name in names if name not in known]
    if not problems and [name for name in known if name in names] != list(names):
        problems = [f"layers {', '.join(names)} are expected once each, in the order {', '.join(known)}."]
    if problems:
        raise InputError(*problems)
    owners: dict[str, str] = {}  # full names: of an owner that is left out -> of the first that was tied to it
    found = []
    for layer in (layer for layer in layers if layer.name in names):
        own = {}
        for alias, owner in layer.ties.items():
            if owner.partition(".")[0] in names:
                own[alias] = owner
            elif owner in owners:
                own[alias] = owners[owner]
            else:
                owners[owner] = f"{layer.name}.{alias}"
        found.append(replace(layer, ties=own))
    return found


def one_by_one(layers: Sequence[Layer]) -> Callable[[int], nn.Module]:
    """A function layer number -> module, to go through a network once and hold one layer at a time.

    Weights are any, and tied ones are not equal. Where `whole` makes all layers at once it is called here, and each
    layer can be asked for once.
    """
    if layers and layers[0].whole is not None:
        whole = layers[0].whole()
        return lambda number: whole.pop(layers[number].name)
    return lambda number: layers[number].build()
