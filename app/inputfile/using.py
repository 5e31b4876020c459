"""The keys of the phases that put a network to use: export and predict."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.inputfile.kinds import Name, PathList, PathText, Positive, Table

Dataset = Annotated[str, Field(min_length=1, max_length=1024)]


class Export(Table):
    """Write a network as files that other programs read, and check them against its own outputs."""

    kind: Literal["export"]
    name: Name = Field(description="names the phase and its files in exports/")
    network: PathText | None = Field(
        None, description='an earlier phase, or "other/run/networks/NAME.h5"; left out: the phase before'
    )
    formats: tuple[Literal["onnx", "program", "weights", "qasm"], ...] = Field(
        ("onnx",),
        strict=False,
        min_length=1,
        description="onnx: NAME.onnx; program: NAME.pt2 of torch.export; weights: NAME.h5; qasm: circuits",
    )
    int8: bool = Field(False, description="also NAME.int8.onnx: weights and activations quantised after training")
    calibration: Positive = Field(512, description="training samples by which int8 chooses its ranges")
    part: Literal["train", "validation", "test"] = Field("test", description="on which the files are measured")
    tolerance: Annotated[float, Field(gt=0, le=1)] = Field(
        1e-4, description="largest difference to the network's own outputs, relative to the largest output"
    )
    batch_size: Positive = Field(256, description="samples in work at once while the files are measured")

    @model_validator(mode="after")
    def _fits(self) -> "Export":
        if self.int8 and "onnx" not in self.formats:
            raise ValueError('int8 = true wants formats with "onnx", which it is made from')
        return self

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of its files end; circuits, of which there may be none, are not among them."""
        known = {"onnx": ".onnx", "program": ".pt2", "weights": ".h5"}
        return (*(known[name] for name in self.formats if name in known), *((".int8.onnx",) if self.int8 else ()))


class Monitor(Table):
    """What is watched while predicting, and when it is worth a warning.

    An input or output has drifted where both its numbers exceed their limits, and what chance gives at so few samples.
    """

    psi: Annotated[float, Field(gt=0, le=100)] = Field(
        0.1, description="population stability index above which an input or output may count as drifted"
    )
    ks: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Kolmogorov-Smirnov distance above which it may; it does where both are"
    )
    confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="mean confidence below which there is a warning"
    )
    latency: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="milliseconds of a batch, 99th percentile, above which there is a warning"
    )
    on_drift: Literal["warn", "fail"] = Field(
        "warn", description="fail: once all phases are done the run ends with exit code 3"
    )
    features: Annotated[int, Field(ge=1, le=65536)] = Field(
        1024, description="inputs that are compared, at most; of more, evenly spaced ones"
    )
    prometheus: PathText | None = Field(
        None, description="a file for the node exporter's textfile collector, relative to the run folder"
    )


class Predict(Table):
    """Apply a network to samples, each once and in order, on all ranks."""

    kind: Literal["predict"]
    name: Name = Field(description="names the phase and predictions/NAME.h5")
    network: PathText | None = Field(
        None,
        description='an earlier phase, "NAME.int8" of an export phase with int8, "other/run/networks/NAME.h5", or'
        ' "FILE.onnx"; left out: the phase before',
    )
    file: PathList | None = Field(None, description="HDF5 files, globs or a list of new samples")
    data: Name | None = Field(None, description="a preprocess phase whose set it is, in place of file")
    part: Literal["all", "train", "validation", "test"] | None = Field(
        None, description="of [data], or of the set; default all of new samples, test of those of [data]"
    )
    inputs: Dataset | None = Field(None, description="path of the dataset; default that of [data], or of the export")
    targets: Dataset | None = Field(None, description="path of labels or values, where there are any, to compare with")
    copy_along: tuple[Dataset, ...] = Field((), strict=False, description="datasets copied to the output, such as ids")
    outputs: tuple[Literal["labels", "probabilities", "values", "logits"], ...] | None = Field(
        None, strict=False, min_length=1, description="default labels and probabilities, or values of a regression"
    )
    batch_size: Positive = Field(1024, description="samples in work at once, over all replicas")
    microbatch_size: Positive | None = Field(None, description="samples of a forward pass; default a quarter")
    provider: Annotated[str, Field(pattern=r"^[A-Za-z]+ExecutionProvider$")] = Field(
        "CPUExecutionProvider", description="of ONNX Runtime, for .onnx files"
    )
    monitor: Monitor | None = Field(None, description="watch speed, confidence and drift: a table, {} for defaults")

    @model_validator(mode="after")
    def _fits(self) -> "Predict":
        if self.file is not None and self.data is not None:
            raise ValueError("file and data are both given; one of them says what the samples are")
        if self.microbatch_size and self.microbatch_size > self.batch_size:
            raise ValueError(f"microbatch_size = {self.microbatch_size} is larger than batch_size = {self.batch_size}")
        return self

    @property
    def microbatch(self) -> int:
        """Samples of a forward pass."""
        return self.microbatch_size or -(-self.batch_size // 4)
