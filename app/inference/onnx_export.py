"""From a network's program to an ONNX file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

import app
from app.errors import ArtifactError, InputError
from app.inference.deployed import first_line, quietly
from app.inference.onnx_network import MOST_BYTES
from app.inference.real_circuits import RealCircuit
from app.learning.device import out_of_memory

OPSET = 18  # the newest that every runtime of the last years reads
INPUTS, OUTPUTS = "inputs", "outputs"
_SPARE = 64 << 20  # bytes of a file beside its weights


class Exported(NamedTuple):
    """A file's content, and the names of the nodes that compute quantum layers."""

    content: bytes
    circuits: tuple[str, ...]


def onnx_file(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> Exported:
    """The network as an ONNX file, for any number of samples. Collective over: none. Raises InputError, ArtifactError.

    Input "inputs", output "outputs"; metadata: texts that the file carries.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size + _SPARE > MOST_BYTES:
        raise InputError(
            f"its weights have {size:,} bytes, and an ONNX file has at most {MOST_BYTES:,}. What to try: formats ="
            ' ["program"] or ["weights"].'
        )
    model = _converted(program)
    circuits = tuple(node.name for node in model.graph.node if _of_circuit(node))
    _clean(model)
    content = with_metadata(model, metadata)
    _check(content)
    return Exported(content, circuits)


def with_metadata(model: Any, metadata: Mapping[str, str]) -> bytes:
    """The content of a model's file that carries these texts. Collective over: none."""
    model.producer_name, model.producer_version = "phalanx", app.__version__
    del model.metadata_props[:]
    for name, text in sorted(metadata.items()):
        model.metadata_props.add(key=name, value=text)
    return model.SerializeToString(deterministic=True)


def _converted(program: torch.export.ExportedProgram) -> Any:
    try:
        with torch.no_grad(), quietly():
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=[INPUTS],
                output_names=[OUTPUTS],
                opset_version=OPSET,
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # the converter has a class of exceptions for each of its steps
        if out_of_memory(error):
            raise
        raise InputError(
            f"torch.onnx cannot convert this network: {first_line(error)}. What to try: other operations in its"
            ' forward, or formats = ["program"] or ["weights"].'
        ) from error
    assert made is not None  # without a file name it gives the program
    return made.model_proto


def _of_circuit(node: Any) -> bool:
    return any(RealCircuit.__name__ in one.value for one in node.metadata_props)


def _clean(model: Any) -> None:
    """No names of this machine's files; the first dim of inputs and outputs is called batch."""
    model.graph.doc_string = ""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
    del model.graph.metadata_props[:]
    word = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for part in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        for dim in part.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = dim.dim_param.replace(word, "batch")


def _check(content: bytes) -> None:
    import onnx

    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as error:  # the checker's and the shape inference's have no common class
        raise ArtifactError(
            f"onnx.checker refuses what torch.onnx made of this network: {first_line(error)}."
        ) from error
