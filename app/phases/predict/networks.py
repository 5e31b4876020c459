"""The network of a predict phase: that of an earlier phase, of another run, or one in an ONNX file."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from app.data.signature import Signature
from app.data.source import Source
from app.data.statistics import Statistics
from app.data.transform import Transform
from app.errors import ArtifactError, DataError, InputError
from app.inputfile.phases import Predict
from app.phases.context import Context
from app.phases.context.networks import read_known
from app.plan.plan import PhasePlan
from app.plan.using import INT8
from app.storage.artifact_file import stored_checksum
from app.storage.header_walk import check_artifact
from app.storage.networks import KIND, StoredNetwork

if TYPE_CHECKING:
    from app.inference.onnx_network import OnnxNetwork

LAYOUTS = ("none", "channels_last")


class Found(NamedTuple):
    """A network that is not built yet.

    source: the input file's word for it. signature: None of a file that says nothing of it. stored: without weights.
    onnx: where it is played by ONNX Runtime. identity: a text that differs when the network does.
    """

    source: str
    path: Path
    signature: Signature | None
    stored: StoredNetwork | None
    onnx: "OnnxNetwork | None"
    identity: str

    @property
    def vocabulary(self) -> int:
        """Number of different tokens that it takes; 0: none, or not known."""
        tree: Mapping[str, Any] = {} if self.stored is None else self.stored.architecture
        return int(tree["options"].get("vocabulary", 0)) if tree.get("kind") == "transformer" else 0


def find_network(context: Context, plan: PhasePlan) -> Found:
    """Collective over: world. Raises ArtifactError, InputError, MachineError."""
    phase: Predict = plan.phase  # type: ignore[assignment]
    source = plan.source
    path = _path(context, plan)
    if path.suffix == ".onnx":
        return context.together(lambda: _onnx(source, path, phase.provider))
    if not plan.networks:
        context.alone(lambda: check_artifact(path, KIND))
    return context.together(lambda: _stored(context, source, path))


def signature_for(found: Found, source: Source) -> Signature:
    """What a network takes and gives, where `source` has what it takes.

    Collective over: none. Raises InputError, ArtifactError, DataError.
    """
    signature = found.signature or _guessed(found, source)
    if source.sample_shape != signature.stored_shape:
        raise DataError(
            f"{source.files[0]}: the samples of '{source.inputs_name}' have the shape {_shape(source.sample_shape)},"
            f" but the network {found.source} takes {_shape(signature.stored_shape)}, as"
            f" '{signature.inputs or 'inputs'}' had; name another dataset by inputs, or store these in that shape."
        )
    if signature.transform.tokens and source.dtype.kind not in "iu":
        raise DataError(
            f"{source.files[0]}: '{source.inputs_name}' has type {source.dtype}, but the network {found.source} takes"
            " tokens, which are integers."
        )
    return signature


def _path(context: Context, plan: PhasePlan) -> Path:
    source = plan.source
    if plan.networks:
        return context.folder.network(source)
    if source.endswith((".h5", ".onnx")):
        return context.input_folder / source
    export = source.removesuffix(INT8)
    return context.folder.exported(export, (".onnx" if export == source else f"{INT8}.onnx",))[0]


def _onnx(source: str, path: Path, provider: str) -> Found:
    from app.inference.onnx_network import open_onnx

    onnx = open_onnx(path, provider, torch.get_num_threads())
    try:
        identity = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error
    return Found(source, path, onnx.signature, None, onnx, f"{onnx.provider} {identity}")


def _stored(context: Context, source: str, path: Path) -> Found:
    stored = read_known(context, path)
    tree = stored.extras.get("signature")
    try:
        signature = None if tree is None else Signature.from_tree(tree)  # type: ignore[arg-type]
        known = signature is None or (list(signature.input_shape), signature.outputs) == (
            stored.architecture["sample_shape"],
            stored.architecture["outputs"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: its checksum is right, but it says not what its network takes ({type(error).__name__}: {error})."
        ) from error
    if not known:
        raise ArtifactError(
            f"{path}: its checksum is right, but what it says of its inputs and outputs is not what its network has."
        )
    return Found(source, path, signature, stored, None, stored_checksum(path))


def _guessed(found: Found, source: Source) -> Signature:
    """Of a file written before networks carried a signature: the constants of its data, and shapes that fit."""
    assert found.stored is not None  # of ONNX files the signature is known
    tree = found.stored.architecture
    try:
        constants = Statistics.from_tree(found.stored.extras["data"])  # type: ignore[arg-type]
        mean = tuple(constants.mean.shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{found.path}: its checksum is right, but it says not what its network was trained on"
            f" ({type(error).__name__}: {error})."
        ) from error
    wanted, shape = tuple(tree["sample_shape"]), source.sample_shape  # type: ignore[arg-type]
    plain = Transform(
        statistics=None if found.vocabulary else constants,
        tokens=found.vocabulary > 0,
        classification=constants.target_mean is None,
    )
    ways = [replace(plain, layout=layout, add_channel=add) for layout in LAYOUTS for add in (False, True)]
    fitting = [way for way in ways if way.sample_shape(shape) == wanted]
    spreads = len(mean) == len(shape) and all(n in (1, m) for n, m in zip(mean, shape, strict=True))
    if not fitting or not (spreads or plain.tokens):
        raise InputError(
            f"{source.files[0]}: the samples of '{source.inputs_name}' have the shape {_shape(shape)}, but the network"
            f" {found.source} takes {_shape(wanted)}; name another dataset by inputs, or store these in that shape."
        )
    return Signature(source.inputs_name, shape, fitting[0], int(str(tree["outputs"])))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of one number"
