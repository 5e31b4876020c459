"""A network in an ONNX file, ours or a stranger's, run by ONNX Runtime."""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.data.signature import Signature
from app.data.transform import Transform
from app.errors import ArtifactError, InputError, MachineError
from app.report.log import escaped
from app.storage.tree import Tree

CPU = "CPUExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
SIGNATURE, REFERENCE = "phalanx", "phalanx.reference"  # of the metadata
MOST_BYTES = 2**31 - 1  # of a protobuf
MOST_REFERENCE = 64 << 20  # characters
# Sets of operators that ONNX Runtime brings itself; an operator of any other needs somebody's library.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_FILES = frozenset({"EPContext"})  # operators that take what they compute from another file
_EXTRA = "pip install 'phalanx-hpc[onnx]'"


class Port(NamedTuple):
    """What enters or leaves a graph. shape: of a sample. batch: samples that it always takes, 0: any number."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    batch: int


@dataclass(frozen=True)
class OnnxNetwork:
    """A network ready to run.

    signature  what it takes and gives; the graph takes samples as stored and does the rest itself
    reference  what its training data look like, to compare new ones with; None where that is not known
    provider   of ONNX Runtime that computes it
    metadata   texts that the file carries, by name
    """

    path: Path
    signature: Signature
    reference: "Tree | None"
    provider: str
    metadata: dict[str, str]
    _session: Any
    _input: Port
    _output: str

    def run(self, rows: np.ndarray) -> np.ndarray:
        """(M, *stored_shape) as stored, of any type of numbers -> (M, ...) float32, logits or values.

        Collective over: none. Raises ArtifactError where the graph fails on them.
        """
        port = self._input
        rows = np.ascontiguousarray(rows).astype(port.dtype, copy=False)
        if not port.batch:
            return self._call(rows)
        parts = [
            self._call(_padded(rows[start : start + port.batch], port.batch))
            for start in range(0, len(rows), port.batch)
        ]
        return np.concatenate(parts)[: len(rows)] if parts else self._call(_padded(rows, port.batch))[:0]

    def _call(self, rows: np.ndarray) -> np.ndarray:
        try:
            found = self._session.run([self._output], {self._input.name: rows})[0]
        except Exception as error:  # its exceptions have no common class
            raise ArtifactError(
                f"{self.path}: ONNX Runtime fails on inputs of shape {rows.shape}, type {rows.dtype}: {_said(error)}."
            ) from error
        if not isinstance(found, np.ndarray) or found.ndim < 1 or len(found) != len(rows):
            raise ArtifactError(
                f"{self.path}: of {len(rows)} samples its output {self._output!r} has the shape"
                f" {np.shape(found)}; expected one row for each."
            )
        return found.astype(np.float32, copy=False)


def open_onnx(path: Path, provider: str = CPU, threads: int = 1) -> OnnxNetwork:
    """The network of a file, checked before anything of it runs.

    threads: of each operator; operators run one after the other. Collective over: none. Raises ArtifactError (missing,
    damaged, needs other files or operators of others), InputError (unknown provider), MachineError (no ONNX Runtime).
    """
    return loaded(_content(path), path, provider, threads)


def loaded(content: bytes, path: Path, provider: str = CPU, threads: int = 1) -> OnnxNetwork:
    """As open_onnx, of a file's content; path: for messages."""
    require_onnx()
    _refuse_provider(provider)
    model = _parsed(content, path)
    _refuse_other_files(model, path)
    _refuse_operators(model, path)
    given = _input_of(model, path)
    metadata = {one.key: one.value for one in model.metadata_props}
    session = _session(content, path, provider, threads)
    output = session.get_outputs()[0]
    if SIGNATURE in metadata:
        signature = _stored_signature(metadata[SIGNATURE], path)
        if signature.stored_shape != given.shape:
            raise ArtifactError(
                f"{path}: it says that it takes samples of shape {signature.stored_shape}, but its graph takes"
                f" {given.shape}; it was changed after Phalanx wrote it."
            )
    else:
        signature = _guessed_signature(given, output, path)
    used = session.get_providers()[0]
    return OnnxNetwork(path, signature, _reference(metadata, path), used, metadata, session, given, output.name)


def providers() -> list[str]:
    """The execution providers of the ONNX Runtime here. Raises MachineError without it."""
    require_onnx()
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def require_onnx() -> None:
    """Raises MachineError where onnx or onnxruntime cannot be imported."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"networks in ONNX files need onnx and onnxruntime: {error}. What to try: {_EXTRA}"
        ) from error


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a named pipe would block for ever
            raise ArtifactError(f"{path}: is not a regular file, expected an ONNX file.")
        if found.st_size > MOST_BYTES:
            raise ArtifactError(
                f"{path}: has {found.st_size:,} bytes; an ONNX file has at most {MOST_BYTES:,}, as larger ones keep"
                " their weights in files beside them, which are not read."
            )
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error


def _parsed(content: bytes, path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is damaged, or not an ONNX file ({_said(error)}).") from error
    if not model.graph.node:
        raise ArtifactError(f"{path}: is not an ONNX file, or one whose graph computes nothing.")
    return model


def _graphs(model: Any) -> Iterator[Any]:
    """The nodes of a model, in graphs within graphs and in its own functions too."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            waiting += attribute.g.node
            for graph in attribute.graphs:
                waiting += graph.node


def _tensors(model: Any) -> Iterator[Any]:
    graphs = [model.graph]
    for node in _graphs(model):
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [attribute.g, *attribute.graphs]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _refuse_other_files(model: Any, path: Path) -> None:
    import onnx

    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise ArtifactError(
                f"{path}: its weights {escaped(tensor.name)!r} lie in another file, {escaped(place)}, which is not"
                " read, since it may be any file of this machine. What to try: onnx.save(onnx.load(FILE), NEW) makes"
                " one file of both."
            )


def _refuse_operators(model: Any, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _graphs(model):
        if (node.domain, node.op_type) in own:
            continue
        if node.domain not in _DOMAINS:
            raise ArtifactError(
                f"{path}: it needs the operator {escaped(node.op_type)!r} of {escaped(node.domain)!r}, which ONNX"
                " Runtime does not have, and libraries of others are not loaded. What to try: export it with the"
                " standard operators."
            )
        if node.op_type in _FILES:
            raise ArtifactError(
                f"{path}: it was compiled for one device ({escaped(node.op_type)}), and what it computes lies in other"
                " files. What to try: the ONNX file that it was made from."
            )


def _input_of(model: Any, path: Path) -> Port:
    import onnx

    constants = {tensor.name for tensor in model.graph.initializer}
    free = [one for one in model.graph.input if one.name not in constants]
    if len(free) != 1:
        names = ", ".join(escaped(one.name) for one in free[:8]) or "none"
        raise ArtifactError(f"{path}: it has {len(free)} inputs ({names}), expected one: the samples.")
    kind = free[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    name = escaped(free[0].name)
    if not free[0].type.HasField("tensor_type") or not dims or min(dims[1:], default=1) < 1:
        raise ArtifactError(
            f"{path}: of its input {name!r} the shape of a sample is not known ({_dims(kind)}); expected numbers for"
            " all sizes but the first, which is that of the batch."
        )
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise ArtifactError(f"{path}: its input {name!r} is of type {dtype}, expected numbers.")
    return Port(free[0].name, dtype, tuple(dims[1:]), max(dims[0], 0))


def _dims(kind: Any) -> str:
    return " x ".join(str(dim.dim_value) if dim.HasField("dim_value") else "?" for dim in kind.shape.dim) or "no shape"


def _refuse_provider(provider: str) -> None:
    known = providers()
    if provider not in known:
        raise InputError(
            f"provider = {provider!r}: this ONNX Runtime does not have it; it has {', '.join(known)}. What to try: one"
            " of these, or the package of ONNX Runtime for that device."
        )


def _session(content: bytes, path: Path, provider: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what is wrong comes as an exception
    wanted: list[Any] = [(provider, _options(provider, threads))]
    try:
        return onnxruntime.InferenceSession(content, options, providers=wanted)
    except Exception as error:  # its exceptions have no common class
        raise ArtifactError(f"{path}: ONNX Runtime with {provider} cannot load it: {_said(error)}.") from error


def _options(provider: str, threads: int) -> dict[str, str]:
    if provider != OPENVINO:
        return {}
    # By itself OpenVINO computes in bf16 where the processor can, and binds the threads of all ranks to the same cores.
    exact = {
        "CPU": {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",
        }
    }
    return {"device_type": "CPU", "load_config": json.dumps(exact)}


def _stored_signature(text: str, path: Path) -> Signature:
    try:
        signature = Signature.from_json(text)
        _ = signature.input_shape
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise ArtifactError(
            f"{path}: its metadata {SIGNATURE!r} are not as Phalanx writes them: {_said(error)}."
        ) from error
    return signature


def _guessed_signature(given: Port, output: Any, path: Path) -> Signature:
    """Of a stranger's file: its graph says the shapes, and several outputs are taken for classes."""
    shape = output.shape or []
    last = shape[-1] if len(shape) > 1 else 1
    if not isinstance(last, int) or last < 1:
        raise ArtifactError(
            f"{path}: how many outputs it has is not known: its output {escaped(output.name)!r} has the shape {shape};"
            " expected a number for the last size. What to try: onnx.shape_inference.infer_shapes, and save it again."
        )
    tokens = given.dtype.kind in "iu" and given.dtype.itemsize > 1
    transform = Transform(tokens=tokens, classification=last > 1)
    return Signature("", given.shape, transform, last)


def _reference(metadata: dict[str, str], path: Path) -> "Tree | None":
    text = metadata.get(REFERENCE)
    if text is None:
        return None
    from app.inference.references import Reference

    try:
        if len(text) > MOST_REFERENCE:
            raise ValueError(f"{len(text):,} characters")
        return Reference.from_json(text).to_tree()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise ArtifactError(
            f"{path}: its metadata {REFERENCE!r} are not as Phalanx writes them: {_said(error)}."
        ) from error


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return rows if not missing else np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


def _said(error: BaseException) -> str:
    text = escaped(" ".join(str(error).split())) or type(error).__name__
    return (text if len(text) <= 300 else f"{text[:297]}...").rstrip(".")
