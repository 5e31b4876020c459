"""The network that is exported: read as a whole, by its file alone."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from app.data.signature import Signature
from app.errors import ArtifactError, InputError
from app.inputfile.phases import Export
from app.learning.training import load_weights_
from app.networks import build
from app.phases.context import Context
from app.phases.context.networks import read_known
from app.phases.context.teachers import path_of, said_of, transform_of
from app.plan.distillation import is_file
from app.storage.header_walk import check_artifact
from app.storage.networks import KIND, StoredNetwork, read_network


class Subject(NamedTuple):
    """A network by the input file's word for it. weights: by name, dense. architecture: what builds it again."""

    name: str
    network: nn.Sequential
    signature: Signature
    architecture: dict[str, Any]
    weights: dict[str, torch.Tensor]


def open_subject(context: Context, phase: Export, name: str) -> Subject:
    """The network of an earlier phase, or of another run's file, on the CPU of every rank, for evaluation.

    Collective over: world. Raises ArtifactError, InputError: it cannot be read, or does not go with this run's data.
    """
    with said_of(f'[[phase]] "{phase.name}": network = "{name}"'):
        path = path_of(context, name)
        if is_file(name):
            context.alone(lambda: check_artifact(path, KIND))
        context.together(lambda: read_known(context, path))
        stored = context.together(lambda: read_network(path))
        signature = context.together(lambda: _checked(_signature(context, stored), stored))
        network = context.together(lambda: _built(stored))
        context.together(lambda: _refuse_other_data(context, signature))
    return Subject(name, network, signature, dict(stored.architecture), stored.weights)


def _built(stored: StoredNetwork) -> nn.Sequential:
    network = build.build(build.from_architecture(stored.architecture), 0)
    load_weights_(network, stored.weights)
    return network.eval()


def _signature(context: Context, stored: StoredNetwork) -> Signature:
    """That of its file; of an older file, that of this run's data."""
    tree: Any = stored.extras.get("signature")
    try:
        if tree is not None:
            return Signature.from_tree(tree)
        if context.known_data is None:
            raise ArtifactError(
                "its file was written before networks carried what they take and give. What to try: a [data] table with"
                " data like those it was trained on."
            )
        own = context.data.signature(context.plan.input.data.inputs)
        return replace(own, transform=transform_of(context, stored))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"its checksum is right, but it says not what its network takes ({type(error).__name__}: {error})."
        ) from error


def _checked(signature: Signature, stored: StoredNetwork) -> Signature:
    """A stranger may have written a signature of another network. Raises ArtifactError."""
    tree: Any = stored.architecture
    found = (tuple(tree["sample_shape"]), tree["outputs"])
    numbers, shape = signature.transform.statistics, signature.stored_shape
    fits = numbers is None or all(
        one.dtype.kind == "f"
        and one.ndim == len(shape)
        and all(n in (1, m) for n, m in zip(one.shape, shape, strict=True))
        for one in (numbers.mean, numbers.std)
    )
    if (signature.input_shape, signature.outputs) != found or not fits:
        raise ArtifactError(
            f"its checksum is right, but what it says of its inputs and outputs ({signature.input_shape},"
            f" {signature.outputs}) does not go with its network ({found[0]}, {found[1]})."
        )
    return signature


def _refuse_other_data(context: Context, signature: Signature) -> None:
    if context.known_data is None:
        return
    found, wanted = context.data.source.sample_shape, signature.stored_shape
    if tuple(found) != tuple(wanted):
        raise InputError(
            f"it takes samples stored in the shape {tuple(wanted)}, but those of [data] have {tuple(found)}; it is"
            " checked and measured on them. What to try: data like those it was trained on."
        )
    if signature.outputs != context.data.outputs:
        raise InputError(
            f"it has {signature.outputs} outputs, but the data of this run need {context.data.outputs}; it is measured"
            " on them. What to try: data like those it was trained on."
        )
