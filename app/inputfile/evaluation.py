"""The keys of the evaluate phase."""

from typing import Literal

from pydantic import Field

from app.inputfile.kinds import Name, Positive, Positives, Table


class Evaluate(Table):
    """Loss and metrics of a network on one part of the data, exact over ranks."""

    kind: Literal["evaluate"]
    name: Name = Field(description="names the phase and its tables")
    network: Name | None = Field(
        None,
        description="an earlier phase that made a network; left out: the phase before",
    )
    part: Literal["train", "validation", "test"] = Field("test", description="which part of the data")
    batch_size: Positive = Field(256, description="samples in work at once, over all replicas")
    microbatch_size: Positive | None = Field(None, description="samples of the unit of work; default a quarter")
    top_k: Positives = Field((5,), description="accuracies counting a hit among the k likeliest classes")

    @property
    def microbatch(self) -> int:
        """Samples of a microbatch."""
        return min(self.microbatch_size or -(-self.batch_size // 4), self.batch_size)
