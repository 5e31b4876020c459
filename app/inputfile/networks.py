"""The [network] table: one model per built-in kind, and the user's own "file.py:function"."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from app.inputfile.kinds import (
    Fraction,
    PathText,
    Positive,
    Positives,
    Table,
    Width,
    Widths,
)
from app.inputfile.layers import AnyLayer

Activation = Literal["relu", "gelu", "tanh", "silu"]
USER = "file.py:function"
FUNCTION = r"^.+\.py:[A-Za-z_]\w*$"


class NetworkTable(Table):
    """A [network] table."""

    kind: str

    def arguments(self) -> dict[str, Any]:
        """What the function that makes the layers is given, by name."""
        return self.model_dump(exclude={"kind"})


class Mlp(NetworkTable):
    """Fully connected layers; a sample of any shape is flattened."""

    kind: Literal["mlp"]
    widths: Widths = Field((256, 128), description="outputs of each hidden layer")
    activation: Activation = Field("relu", description="after each hidden layer")
    dropout: Fraction = Field(0.0, description="share of a hidden layer's outputs set to zero in training")
    norm: Literal["none", "layer"] = Field("none", description="normalisation of each hidden layer")


class Lenet(NetworkTable):
    """Two convolutions, two poolings, three dense layers."""

    kind: Literal["lenet"]
    channels: Annotated[tuple[Width, Width], Field(strict=False)] = Field((6, 16), description="of both convolutions")
    widths: Annotated[tuple[Width, Width], Field(strict=False)] = Field((120, 84), description="of both dense layers")
    activation: Activation = Field("relu", description="after each layer")
    dropout: Fraction = Field(0.0, description="share of a dense layer's outputs set to zero in training")


class Resnet(NetworkTable):
    """A residual network of basic blocks for images."""

    kind: Literal["resnet"]
    depth: Annotated[int, Field(ge=8, le=2000)] | None = Field(
        None,
        description="layers in all, 6n+2 (three groups of n blocks); or give blocks",
    )
    blocks: Annotated[Positives, Field(min_length=1, max_length=8)] | None = Field(
        None, description="basic blocks of each group; default [2, 2, 2, 2]"
    )
    width: Width = Field(64, description="channels of the first group; doubled from group to group")
    norm: Literal["group", "batch"] = Field(
        "group",
        description="batch: statistics of each microbatch, so that the grid does not matter",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "Resnet":
        if self.depth and self.blocks:
            raise ValueError("depth and blocks are both given; they say the same thing, so give one")
        return self

    def arguments(self) -> dict[str, Any]:
        """Blocks have their default where no depth is given."""
        blocks = self.blocks or (None if self.depth else (2, 2, 2, 2))
        return {"depth": self.depth, "blocks": blocks, "width": self.width, "norm": self.norm}


class Transformer(NetworkTable):
    """Pre-norm transformer blocks for sequences of tokens (T,) or of features (T, F)."""

    kind: Literal["transformer"]
    vocabulary: Annotated[int, Field(ge=0, le=2**31)] = Field(
        0,
        description="number of different tokens; 0: the inputs are features, not tokens",
    )
    width: Width = Field(128, description="features inside the blocks")
    heads: Width = Field(4, description="attention heads; divides width")
    blocks: Positive = Field(2, description="number of blocks")
    feedforward: Width | None = Field(None, description="width of the dense layer of a block; default 4 x width")
    dropout: Fraction = Field(0.0, description="share set to zero in training")
    causal: bool = Field(False, description="a position sees only those before it")
    pooling: Literal["mean", "first", "none"] = Field("mean", description="over positions; none: one output per token")
    tied: bool = Field(
        False,
        description="the head's weights are the embedding's; of tokens, with pooling none and classes = vocabulary",
    )


class Layers(NetworkTable):
    """A list of layers, from the inputs on; a last linear layer gives the outputs."""

    kind: Literal["layers"]
    layers: Annotated[tuple[AnyLayer, ...], Field(strict=False, min_length=1, max_length=10_000)] = Field(
        examples=[
            (
                {"kind": "dense", "width": 4, "activation": "tanh"},
                {"kind": "quantum", "qubits": 4, "layers": 2},
            )
        ],
        description="kinds: dense, convolution, pooling, dropout, quantum",
    )

    def arguments(self) -> dict[str, Any]:
        """Entries as plain tables; measure only where it is given."""
        plain = [one.model_dump() for one in self.layers]
        for entry in plain:
            if "measure" in entry:
                measure = list(entry.pop("measure"))
                entry |= {"measure": measure} if measure else {}
        return {"layers": plain}


class UserNetwork(NetworkTable):
    """The user's own: (sample_shape, outputs, **options) -> nn.Module, or functions that make one layer each."""

    kind: Annotated[PathText, Field(pattern=FUNCTION)] = Field(
        description='"file.py:function", relative to this input file; an nn.Sequential can be cut by layer, and of a'
        " list (or dict by name) of functions that each make one layer a rank calls only its own"
    )
    options: dict[str, Any] = Field({}, description="passed to the function by name")

    def arguments(self) -> dict[str, Any]:
        """The user's options, as they are."""
        return dict(self.options)


class Parts(NetworkTable):
    """Some layers of another network, made by a phase: what they are is known when that one is read."""

    kind: str


class NoNetwork(NetworkTable):
    """That of an input file of quantum phases alone, which need none."""

    kind: Literal["none"] = "none"


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return USER if isinstance(kind, str) and ".py:" in kind else str(kind)


Network = Annotated[
    Annotated[Mlp, Tag("mlp")]
    | Annotated[Lenet, Tag("lenet")]
    | Annotated[Resnet, Tag("resnet")]
    | Annotated[Transformer, Tag("transformer")]
    | Annotated[Layers, Tag("layers")]
    | Annotated[UserNetwork, Tag(USER)]
    | Annotated[NoNetwork, Tag("none")],
    Discriminator(_kind),
]
NETWORKS: dict[str, type[NetworkTable]] = {
    "mlp": Mlp,
    "lenet": Lenet,
    "resnet": Resnet,
    "transformer": Transformer,
    "layers": Layers,
    USER: UserNetwork,
}
