"""The keys of the phases that make networks smaller: prune and distill."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from app.inputfile.kinds import Count, Name, PathText, Positive
from app.inputfile.networks import FUNCTION, Network
from app.inputfile.training import Trains

LayerName = Annotated[str, Field(min_length=1, max_length=200)]


class Prune(Trains):
    """Remove what a network needs least, and train what is left; as often as rounds says."""

    kind: Literal["prune"]
    network: Name | None = Field(
        None, description="an earlier phase whose network is pruned; left out: that of the phase before"
    )
    epochs: Count = Field(5, description="of fine-tuning after each cut; 0: none")
    method: Literal["magnitude", "sparsity", "effect", "random"] = Field(
        "magnitude",
        description="by weight; by training that drives weights to zero; by what removing costs; at random, to compare",
    )
    units: Literal["channels", "connections", "2:4"] = Field(
        "channels",
        description="channels: neurons, channels and attention heads, so that layers get smaller; connections: single"
        " weights become zero; 2:4: two of each four, which GPUs compute faster",
    )
    remove: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of the target to remove; default 0.5, of method sparsity what went to zero"
    )
    target: Literal["operations", "parameters", "units"] = Field(
        "operations", description="what the share is of; of connections it is always the connections"
    )
    ranking: Literal["global", "layer"] = Field("global", description="units compete over all layers, or within each")
    norm: Literal["l1", "l2"] = Field("l2", description="of a unit's weights, of methods magnitude and sparsity")
    measure: Literal["taylor", "scan"] = Field(
        "taylor",
        description="of method effect; taylor: from gradients; scan: the loss of removing some of each group,"
        " measured on the validation part",
    )
    batches: Positive = Field(
        32,
        description="training batches, at most, that measure taylor takes gradients from, and batch norm its"
        " statistics after a cut",
    )
    levels: Annotated[int, Field(ge=2, le=64)] = Field(8, description="shares of each group that measure scan removes")
    penalty: Literal["lasso", "growing", "scale"] = Field(
        "lasso",
        description="of method sparsity; lasso: on each unit's norm (of connections: l1); growing: a decay of those"
        " that will go, growing from step to step; scale: l1 on the scale factors of normalisations",
    )
    strength: Annotated[float, Field(gt=0, le=1e3)] = Field(0.1, description="of the penalty")
    penalty_epochs: Positive = Field(5, description="epochs of training with the penalty, before each cut")
    rounds: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="cuts; the share grows from one to the next")
    growth: Literal["linear", "cubic"] = Field(
        "cubic", description="how the share grows over the rounds; cubic: much at first (Zhu and Gupta 2017)"
    )
    accuracy_loss: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="go on from round to round while the validation accuracy (of regression: r2) falls by no more than"
        " this; the last network that kept it is handed on",
    )
    round_to: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="widths are multiples of this; auto: what the device computes in"
    )
    most: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="share of a group's units removed at most")
    keep_layers: Annotated[tuple[LayerName, ...], Field(strict=False)] = Field(
        (), description="names of layers whose units all stay"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> "Prune":
        if self.share is None and (self.rounds > 1 or self.accuracy_loss is not None):
            raise ValueError("method sparsity without remove cuts what went to zero, once; give remove for more rounds")
        if self.share is None and self.penalty == "growing":
            raise ValueError('penalty = "growing" decays what is chosen before; give remove')
        if self.accuracy_loss is not None and self.rounds == 1:
            raise ValueError("accuracy_loss wants rounds of 2 or more: the share that may be removed grows over them")
        if self.units == "2:4" and self.remove is not None:
            raise ValueError('units = "2:4" removes one half of the connections; leave remove out')
        if self.units != "channels" and self.method == "effect" and self.measure == "scan":
            raise ValueError('measure = "scan" wants units = "channels"; of connections give measure = "taylor"')
        if self.units != "channels" and self.method == "sparsity" and self.penalty == "scale":
            raise ValueError('penalty = "scale" wants units = "channels"')
        return self

    @property
    def share(self) -> float | None:
        """Of the target, to be removed at the end; None: what went to zero."""
        if self.units == "2:4":
            return 0.5
        return 0.5 if self.remove is None and self.method != "sparsity" else self.remove


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Distill(Trains):
    """Train a small network, the student, to do what one or more teachers do."""

    kind: Literal["distill"]
    teacher: Annotated[
        tuple[PathText, ...], Field(strict=False, min_length=1, max_length=64), BeforeValidator(_as_tuple)
    ] = Field(
        examples=["train"],
        description='an earlier phase, a network file "FILE.h5" of another run, "file.py:function" of your own, or a'
        " list of these, which are averaged",
    )
    network: Name | None = Field(None, description="the student is the network of this earlier phase, a pruned one say")
    student: Network | None = Field(
        None, examples=[{"kind": "mlp", "widths": [32]}], description="or a new network: a table as [network]"
    )
    layers: Annotated[tuple[LayerName, ...], Field(strict=False, min_length=1)] | None = Field(
        None, description="or these layers of the (first) teacher, starting from its weights"
    )
    temperature: Annotated[float, Field(gt=0, le=1e3)] = Field(
        4.0, description="softens the outputs of teacher and student; of classification"
    )
    soft: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7, description="share of the loss against the teacher's outputs; the rest is against the targets"
    )
    hints: dict[str, str] = Field(
        {}, description="layer of the student = layer of the (first) teacher whose outputs it learns to give"
    )
    hint_weight: Annotated[float, Field(ge=0, le=1e6)] = Field(1.0, description="of the hints' loss")

    @model_validator(mode="after")
    def _one_student(self) -> "Distill":
        given = [key for key in ("network", "student", "layers") if getattr(self, key) is not None]
        if len(given) != 1:
            what = " and ".join(given) + " are given" if given else "none is given"
            raise ValueError(f"one of network, student and layers says what the student is; {what}")
        bad = [name for name in self.teacher if ".py:" in name and not re.fullmatch(FUNCTION, name)]
        if bad:
            raise ValueError(f'teacher = "{bad[0]}": a function of your own is named "file.py:function"')
        return self

    @property
    def used_hints(self) -> dict[str, str]:
        """The hints that weigh anything."""
        return self.hints if self.hint_weight else {}
