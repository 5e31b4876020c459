"""A network given as a list of layers: dense, convolution, pooling, dropout, quantum; last a linear output layer."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

from torch import nn

from app.networks.activations import ACTIVATIONS
from app.networks.layers import Layer
from app.networks.lenet import as_image
from app.networks.mlp import output
from app.networks.quantum import QuantumLayer
from app.plan.layer_lists import Listed
from app.plan.layer_lists import listed as sizes_of


def listed(*, layers: Sequence[Mapping[str, Any]], sample_shape: Sequence[int], outputs: int) -> list[Layer]:
    """Layers KIND1, KIND2, ..., by their place, and output; dense and quantum layers flatten: (M, ...) -> (M, K).

    Collective over: none. Raises InputError.
    """
    return [Layer(one.name, partial(_build, one)) for one in sizes_of(layers, sample_shape, outputs)]


def _build(one: Listed) -> nn.Module:
    entry, flat = one.entry, len(one.before) == 1
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if entry is None:
        return output(prod(one.before), one.after[0], flatten=not flat)
    if entry["kind"] in ("dense", "quantum") and not flat:
        parts["flatten"] = nn.Flatten()
    if entry["kind"] in ("convolution", "pooling"):
        parts |= as_image(one.before)
    if entry["kind"] == "dense":
        parts["linear"] = nn.Linear(prod(one.before), one.after[0])
    elif entry["kind"] == "convolution":
        before = one.before[0] if len(one.before) == 3 else 1
        kernel = entry["kernel"]
        parts["convolution"] = nn.Conv2d(before, one.after[0], kernel, entry["stride"], padding=kernel // 2)
    elif entry["kind"] == "pooling":
        parts["pooling"] = (nn.MaxPool2d if entry["function"] == "max" else nn.AvgPool2d)(entry["size"])
    elif entry["kind"] == "dropout":
        parts["dropout"] = nn.Dropout(entry["share"])
    else:
        parts["circuit"] = _quantum(entry)
    if entry.get("activation", "none") != "none":
        parts["activation"] = ACTIVATIONS[entry["activation"]]()
    return nn.Sequential(parts)


def _quantum(entry: Mapping[str, Any]) -> QuantumLayer:
    return QuantumLayer(
        entry["qubits"],
        entry["layers"],
        ansatz=entry["ansatz"],
        embedding=entry["embedding"],
        rotation=entry["rotation"],
        reupload=entry["reupload"],
        scale=entry["scale"],
        measure=entry.get("measure") or (),
    )
