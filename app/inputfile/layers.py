"""The entries of a list of layers: [network] kind = "layers"."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from app.inputfile.kinds import Fraction, Table, Width, kind_of

Activation = Literal["none", "relu", "gelu", "tanh", "silu"]
_PAULIS = re.compile(r"[XYZ]\d+( [XYZ]\d+)*")


def _pauli(value: str) -> str:
    if not _PAULIS.fullmatch(value):
        raise ValueError('Paulis on qubits, such as "Z0" or "X0 X1"')
    return value


Pauli = Annotated[str, AfterValidator(_pauli)]


class DenseLayer(Table):
    """A linear layer; what comes in is flattened."""

    kind: Literal["dense"]
    width: Width = Field(description="outputs")
    activation: Activation = Field("relu", description="after it")


class ConvolutionLayer(Table):
    """A convolution of images, padded so that stride 1 keeps their size."""

    kind: Literal["convolution"]
    channels: Width = Field(description="outputs")
    kernel: Literal[1, 3, 5, 7, 9] = Field(3, description="height and width")
    stride: Annotated[int, Field(ge=1, le=64)] = Field(1, description="pixels from one place to the next")
    activation: Activation = Field("relu", description="after it")


class PoolingLayer(Table):
    """One pixel of each square of an image."""

    kind: Literal["pooling"]
    function: Literal["max", "mean"] = Field("max", description="of the square")
    size: Annotated[int, Field(ge=1, le=1024)] = Field(2, description="height and width of the square")


class DropoutLayer(Table):
    """Sets a share of the values to zero in training."""

    kind: Literal["dropout"]
    share: Fraction = Field(0.5, description="of the values")


class QuantumLayer(Table):
    """A simulated circuit of trainable angles, whose measured means are the outputs."""

    kind: Literal["quantum"]
    qubits: Annotated[int, Field(ge=1, le=20)] = Field(description="as many inputs are expected; see embedding")
    layers: Annotated[int, Field(ge=1, le=1000)] = Field(2, description="of rotations and CNOTs")
    ansatz: Literal["strongly_entangling", "hardware_efficient"] = Field(
        "strongly_entangling", description="three rotations and rings of CNOTs, or two and chains"
    )
    embedding: Literal["angle", "amplitude"] = Field(
        "angle", description="inputs are angles, one a qubit; or 2^qubits inputs, normalised, are the state"
    )
    rotation: Literal["x", "y", "z"] = Field("x", description="about which axis inputs turn; z after a Hadamard")
    reupload: bool = Field(False, description="embed the inputs before every layer, not only the first")
    scale: Annotated[float, Field(gt=0, le=1e3)] = Field(1.0, description="radians of an input of 1")
    measure: Annotated[tuple[Pauli, ...], Field(strict=False)] = Field(
        (), description='Pauli strings whose means are the outputs, such as "Z0" or "X0 X1"; none: Z of every qubit'
    )

    @model_validator(mode="after")
    def _goes_together(self) -> "QuantumLayer":
        if self.reupload and self.embedding != "angle":
            raise ValueError('reupload embeds angles again; it wants embedding = "angle"')
        for text in self.measure:
            qubits = [int(factor[1:]) for factor in text.split()]
            if max(qubits) >= self.qubits or len(set(qubits)) < len(qubits):
                raise ValueError(f"measure = {text!r}: each of qubits 0 to {self.qubits - 1} at most once")
        return self


AnyLayer = Annotated[
    Annotated[DenseLayer, Tag("dense")]
    | Annotated[ConvolutionLayer, Tag("convolution")]
    | Annotated[PoolingLayer, Tag("pooling")]
    | Annotated[DropoutLayer, Tag("dropout")]
    | Annotated[QuantumLayer, Tag("quantum")],
    Discriminator(kind_of),
]
LAYERS: dict[str, type[Table]] = {
    "dense": DenseLayer,
    "convolution": ConvolutionLayer,
    "pooling": PoolingLayer,
    "dropout": DropoutLayer,
    "quantum": QuantumLayer,
}
