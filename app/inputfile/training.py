"""The keys of phases that train, and the train phase itself."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.inputfile.kinds import Count, Fraction, Name, Positive, Positives, Table
from app.inputfile.networks import Network

NEW = "new"


class Trains(Table):
    """The keys of every phase that moves weights."""

    kind: str
    name: Name = Field(description="names the phase, its network and its tables")
    network: Name | None = Field(
        None,
        description='an earlier phase whose network is trained on, or "new"; left out: the phase before, or new',
    )
    epochs: Positive = Field(10, description="passes over the training part")
    batch_size: Positive = Field(64, description="samples of one optimizer step, over all replicas")
    microbatch_size: Positive | None = Field(
        None,
        description="samples of the unit of work that replicas share out; default a quarter of the batch",
    )
    loss: Literal["cross_entropy", "mse", "l1", "huber", "bce"] | None = Field(
        None, description="default cross_entropy for classification, mse for regression"
    )
    label_smoothing: Fraction = Field(0.0, description="of cross_entropy")
    optimizer: Literal["sgd", "adam", "adamw", "lamb", "lars"] = Field(
        "adam", description="lamb and lars are for large batches"
    )
    rate: Annotated[float, Field(gt=0, le=1e3)] = Field(1e-3, description="learning rate at its highest")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd and lars")
    nesterov: bool = Field(False, description="Nesterov momentum, of sgd")
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = Field(
        (0.9, 0.999), description="decay of both moments, of adam, adamw and lamb"
    )
    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(1e-8, description="of adam, adamw and lamb")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="of weights; not of biases and norms")
    decay_all: bool = Field(False, description="weight decay of biases and norms too")
    schedule: Literal["constant", "step", "cosine", "linear", "polynomial", "one_cycle"] = Field(
        "constant", description="how the rate changes over the phase"
    )
    milestones: Positives = Field((), description="epochs after which schedule step multiplies the rate by factor")
    factor: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="of schedule step")
    power: Annotated[float, Field(gt=0, le=10)] = Field(2.0, description="of schedule polynomial")
    warmup_epochs: Annotated[float, Field(ge=0, le=1e6)] = Field(0.0, description="epochs of linear warm-up")
    min_rate: Annotated[float, Field(ge=0, le=1e3)] = Field(0.0, description="the rate does not fall below")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="largest global norm of the gradients")
    keep: Literal["best", "last"] = Field("best", description="which network the phase hands on")
    monitor: Literal["loss", "accuracy"] = Field("loss", description="what best means, on the validation part")
    patience: Count = Field(0, description="epochs without a better network before training stops; 0: never")
    checkpoint_steps: Count = Field(0, description="steps between checkpoints; 0: by minutes alone")
    checkpoint_minutes: Annotated[float, Field(ge=0, le=1e5)] = Field(
        5.0, description="minutes between checkpoints; 0: by steps alone"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Trains":
        if self.microbatch_size and self.microbatch_size > self.batch_size:
            raise ValueError(f"microbatch_size = {self.microbatch_size} is larger than batch_size = {self.batch_size}")
        if self.min_rate > self.rate:
            raise ValueError(f"min_rate = {self.min_rate} is larger than rate = {self.rate}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError('schedule = "step" wants milestones = [EPOCH, ...]')
        return self

    @property
    def microbatch(self) -> int:
        """Samples of a microbatch."""
        return self.microbatch_size or -(-self.batch_size // 4)


class Train(Trains):
    """Train a network on the training part; validate after each epoch; keep the best."""

    kind: Literal["train"]
    architecture: Network | None = Field(
        None, description="a new network of the phase's own, to compare say: a table as [network], in its place"
    )

    @model_validator(mode="after")
    def _one_network(self) -> "Train":
        if self.architecture is not None and self.network is not None:
            raise ValueError("network and architecture are both given; one of them says what is trained")
        return self
