"""Networks given as a list of layers: shapes on the way, which combinations cannot be, and what each layer costs.

An entry is a dict with its kind and that kind's own keys, as app/inputfile/layers.py has them.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from app.plan.architectures import ACTIVATIONS, Image, problems_of_numbers, refuse

LARGEST_GROUP = 4  # qubits whose rotations are one matrix product: 16x16 is fast, 32x32 only does more work
Shape = tuple[int, ...]


class Listed(NamedTuple):
    """One layer: its name, its entry (none: the last linear layer), shapes of a sample before and after it.

    parameters; operations: multiply-adds of a sample's forward pass; kept: numbers a sample keeps for backward.
    """

    name: str
    entry: Mapping[str, Any] | None
    before: Shape
    after: Shape
    parameters: int = 0
    operations: int = 0
    kept: int = 0


def listed(layers: Sequence[Mapping[str, Any]], sample_shape: Sequence[int], outputs: int) -> tuple[Listed, ...]:
    """The layers KIND1, KIND2, ... by their place, and the last, `output`. Raises InputError with all problems."""
    shape: Shape = tuple(sample_shape)
    problems = problems_of_numbers("layers", sample_shape=list(shape), outputs=outputs)
    if not layers:
        problems.append("network layers: the list is empty; give at least one layer before the output")
    found: list[Listed] = []
    for number, entry in enumerate(layers):
        name = f"{entry['kind']}{number + 1}"
        after = _AFTER[entry["kind"]](entry, shape)
        if isinstance(after, str):
            problems.append(f"network layers: layer {number + 1}, {entry['kind']}: {after}")
            break
        found.append(_LAYERS[entry["kind"]](name, entry, shape, after))
        shape = after
    refuse(problems)
    features = prod(shape)
    last = Listed("output", None, shape, (outputs,), (features + 1) * outputs, features * outputs, features)
    return (*found, last)


def as_image(shape: Shape) -> Image | None:
    """(C, H, W), or (H, W) with one channel; None: no image."""
    if len(shape) not in (2, 3):
        return None
    return Image(1, *shape) if len(shape) == 2 else Image(*shape)


def rotation_groups(qubits: int) -> tuple[int, ...]:
    """Sizes of groups of at most LARGEST_GROUP qubits, as equal as they can be, the larger first."""
    count = -(-qubits // LARGEST_GROUP)
    return tuple(qubits // count + (number < qubits % count) for number in range(count))


def quantum_inputs(entry: Mapping[str, Any]) -> int:
    """Features that a quantum layer takes."""
    return 1 << entry["qubits"] if entry["embedding"] == "amplitude" else entry["qubits"]


def quantum_operations(qubits: int, layers: int, outputs: int) -> int:
    """Multiply-adds of a sample as the simulation does them: real products by groups, a complex diagonal, the means."""
    products = 2 * sum(1 << size for size in rotation_groups(qubits))
    return (1 << qubits) * (layers * (products + 4) + 2 * outputs)


def _dense_after(entry: Mapping[str, Any], shape: Shape) -> Shape | str:
    return _activation(entry) or (entry["width"],)


def _convolution_after(entry: Mapping[str, Any], shape: Shape) -> Shape | str:
    image = as_image(shape)
    if image is None:
        return f"a sample has shape {shape} here, but (channels, height, width) or (height, width) is expected"
    return _activation(entry) or (
        entry["channels"],
        *((side - 1) // entry["stride"] + 1 for side in (image.height, image.width)),
    )


def _pooling_after(entry: Mapping[str, Any], shape: Shape) -> Shape | str:
    image, size = as_image(shape), entry["size"]
    if image is None:
        return f"a sample has shape {shape} here, but (channels, height, width) or (height, width) is expected"
    if min(image.height, image.width) < size:
        return f"size = {size} is larger than the image of {image.height}x{image.width}"
    return (image.channels, image.height // size, image.width // size)


def _quantum_after(entry: Mapping[str, Any], shape: Shape) -> Shape | str:
    wanted, features = quantum_inputs(entry), prod(shape)
    if features != wanted:
        return (
            f"{entry['qubits']} qubits with {entry['embedding']} embedding take {wanted} inputs, but {features} come"
            f' from before; put {{ kind = "dense", width = {wanted}, activation = "tanh" }} before it'
        )
    return (len(entry.get("measure") or ()) or entry["qubits"],)


def _activation(entry: Mapping[str, Any]) -> str:
    known = ("none", *ACTIVATIONS)
    given = entry["activation"]
    return "" if given in known else f"activation = {given!r} is not one of {', '.join(known)}"


def _kept_by_activation(entry: Mapping[str, Any], size: int) -> int:
    # relu and tanh keep their result, which is the next layer's input
    return size if entry["activation"] in ("gelu", "silu") else 0


def _dense(name: str, entry: Mapping[str, Any], before: Shape, after: Shape) -> Listed:
    features, width = prod(before), after[0]
    kept = features + _kept_by_activation(entry, width)
    return Listed(name, entry, before, after, (features + 1) * width, features * width, kept)


def _convolution(name: str, entry: Mapping[str, Any], before: Shape, after: Shape) -> Listed:
    image = as_image(before)
    assert image is not None  # _convolution_after has looked
    weights = entry["kernel"] ** 2 * image.channels * after[0]
    kept = image.size + _kept_by_activation(entry, prod(after))
    return Listed(name, entry, before, after, weights + after[0], weights * after[1] * after[2], kept)


def _pooling(name: str, entry: Mapping[str, Any], before: Shape, after: Shape) -> Listed:
    # max keeps an index of 8 bytes for each result, beside its input
    kept = prod(before) + 2 * prod(after) if entry["function"] == "max" else 0
    return Listed(name, entry, before, after, kept=kept)


def _dropout(name: str, entry: Mapping[str, Any], before: Shape, after: Shape) -> Listed:
    return Listed(name, entry, before, after, kept=prod(after) if entry["share"] else 0)


def _quantum(name: str, entry: Mapping[str, Any], before: Shape, after: Shape) -> Listed:
    qubits, layers = entry["qubits"], entry["layers"]
    angles = layers * qubits * (3 if entry["ansatz"] == "strongly_entangling" else 2)
    # a complex state for each layer, and the real one it begins with
    kept = (2 * layers + 1) << qubits
    return Listed(name, entry, before, after, angles, quantum_operations(qubits, layers, after[0]), kept)


_AFTER: dict[str, Callable[[Mapping[str, Any], Shape], Shape | str]] = {
    "dense": _dense_after,
    "convolution": _convolution_after,
    "pooling": _pooling_after,
    "dropout": lambda entry, shape: shape,
    "quantum": _quantum_after,
}
_LAYERS: dict[str, Callable[[str, Mapping[str, Any], Shape, Shape], Listed]] = {
    "dense": _dense,
    "convolution": _convolution,
    "pooling": _pooling,
    "dropout": _dropout,
    "quantum": _quantum,
}
