"""ONNX files in whole numbers of 8 bits: ranges of activations are those of samples, weights have a scale a channel."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ArtifactError
from app.inference.deployed import first_line, quietly
from app.inference.onnx_export import INPUTS, with_metadata

_OPERATORS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu"]  # the last two so that numbers between stay whole


def quantised(
    content: bytes, batches: Iterable[np.ndarray], floats: Sequence[str], metadata: Mapping[str, str], folder: Path
) -> bytes:
    """The content of a quantised file (QDQ), from that of a float one and batches of samples (M, *stored_shape).

    Convolutions and products of matrices are quantised; what standardises the inputs and the nodes named in `floats`
    stay as they are. folder: for a file on the way. Collective over: none. Raises ArtifactError.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load_model_from_string(content)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    with tempfile.TemporaryDirectory(dir=folder, prefix="int8-") as place, quietly():
        path = Path(place) / "int8.onnx"
        try:
            quantize_static(
                model,
                path,
                _Reader(batches, dtype),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=list(floats),
                per_channel=True,
                reduce_range=True,  # 7 bits: two products of 8 overflow 16 on processors without VNNI, and are cut off
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        except Exception as error:  # the quantiser's exceptions have no common class
            raise ArtifactError(f"ONNX Runtime cannot quantise this network: {first_line(error)}.") from error
        return with_metadata(onnx.load_model(path), metadata)


def quantises(content: bytes) -> bool:
    """Whether anything of a quantised file computes in whole numbers. Collective over: none."""
    import onnx

    return any(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(content).graph.node)


class _Reader:
    """What ONNX Runtime calls a CalibrationDataReader."""

    def __init__(self, batches: Iterable[np.ndarray], dtype: np.dtype) -> None:
        self._batches, self._dtype = iter(batches), dtype

    def get_next(self) -> dict[str, Any] | None:
        rows = next(self._batches, None)
        return None if rows is None else {INPUTS: np.ascontiguousarray(rows).astype(self._dtype, copy=False)}
