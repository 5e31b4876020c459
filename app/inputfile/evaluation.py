"""The keys of the evaluate phase."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from app.inputfile.kinds import Name, Positive, Positives, Table

ALL = "all"


def _networks(value: Any) -> Any:
    """A text, or a list of different ones; checked here, as a union would report both halves."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f'the name of a phase, a list of names, or "{ALL}"')
    twice = [name for number, name in enumerate(value) if name in value[:number]]
    if twice:
        raise ValueError(f"each network once, and {twice[0]!r} comes twice")
    return tuple(value)


class Evaluate(Table):
    """Loss and metrics of one network or several on one part of the data, exact over ranks."""

    kind: Literal["evaluate"]
    name: Name = Field(description="names the phase and its tables")
    network: Annotated[str | tuple[str, ...], BeforeValidator(_networks)] | None = Field(
        None,
        description='an earlier phase that made a network, ["NAME", ...] to compare several, or "all"; left out: the'
        " phase before",
    )
    part: Literal["train", "validation", "test"] = Field("test", description="which part of the data")
    batch_size: Positive = Field(256, description="samples in work at once, over all replicas")
    microbatch_size: Positive | None = Field(None, description="samples of the unit of work; default a quarter")
    top_k: Positives = Field((5,), description="accuracies counting a hit among the k likeliest classes")

    @property
    def microbatch(self) -> int:
        """Samples of a microbatch."""
        return min(self.microbatch_size or -(-self.batch_size // 4), self.batch_size)
