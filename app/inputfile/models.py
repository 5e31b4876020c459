"""The tables of an input file: type, range, unit, default and one line of documentation of every key."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from app.inputfile.evaluation import ALL
from app.inputfile.kinds import (
    Bytes,
    Count,
    Fraction,
    Name,
    PathList,
    PathText,
    Positive,
    Positives,
    Table,
)
from app.inputfile.networks import Network, NoNetwork
from app.inputfile.phases import NEW, Phase


class Run(Table):
    """What the run is called, where its results go, what it runs on."""

    name: Name = Field(description="of the run")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="all randomness comes from it")
    folder: PathText | None = Field(
        None,
        description="the run folder, relative to the working directory; default results/NAME",
    )
    device: Literal["auto", "cpu", "cuda", "xpu", "mps", "hpu", "npu", "xla"] = Field(
        "auto",
        description="one device per rank of a host; hpu: Gaudi, npu: Ascend, xla: TPU, with torch's plug-in for it",
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="bf16: autocast; weights stay float32. tf32: products of float32 numbers rounded, on NVIDIA GPUs",
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="of images in convolutions; auto: channels last where it is faster, never with float32"
    )
    compile: bool = Field(False, description="compile the layers with torch.compile: slower to start, then faster")
    cuda_graphs: bool = Field(
        False, description="replay what was compiled as CUDA graphs, with one stage: for small networks; needs compile"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="threads of each rank; default the host's cores / its ranks"
    )
    watchdog: Annotated[float, Field(ge=0, le=1e6)] = Field(
        300.0,
        description="seconds after which a collective operation that not all ranks reach ends the run; 0: never",
    )
    stop_after: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None,
        description="minutes after its start at which the run saves its state and stops; default the limit of its job"
        " in Slurm",
    )
    stop_margin: Annotated[float, Field(ge=0, le=1e5)] = Field(
        60.0, description="seconds before that limit at which it does so; more where steps or saving take longer"
    )
    log_seconds: Annotated[float, Field(gt=0, le=1e5)] = Field(10.0, description="seconds between progress lines")
    trace: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="steps of each train phase whose timeline is recorded, from its second on; 0: none"
    )
    measure: Annotated[float, Field(ge=0, le=3600)] = Field(
        0.5, description="seconds spent on timing each finished network; 0: none"
    )
    measure_batch: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        16, description="samples of a forward pass that is timed, beside one of 1 sample"
    )

    @model_validator(mode="after")
    def _graphs_of_compiled(self) -> "Run":
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs = true replays what was compiled: say compile = true too")
        return self


def _cut(value: Any) -> Any:
    """One of two words, or names of layers; checked here, as a union would report both halves."""
    if isinstance(value, list | tuple):
        if not value or not all(isinstance(name, str) and name for name in value):
            raise ValueError("a list of names of layers in quotes")
        return tuple(value)
    if value not in ("estimated", "measured"):
        raise ValueError('"estimated", "measured" or a list of names of layers')
    return value


class Grid(Table):
    """How the ranks are arranged: replicas x stages."""

    stages: Annotated[int, Field(ge=1, le=4096)] = Field(1, description="pipeline stages; replicas = ranks / stages")
    schedule: Literal["1f1b", "gpipe", "interleaved"] = Field(
        "1f1b",
        description="in which order a stage computes; 1f1b: little memory; interleaved: less idle, more messages",
    )
    chunks: Annotated[int, Field(ge=2, le=64)] = Field(
        2, description="chunks of the network that a stage holds; of schedule interleaved"
    )
    cut: Annotated[Literal["estimated", "measured"] | tuple[str, ...], BeforeValidator(_cut)] = Field(
        "estimated",
        description='by which times layers are shared out; or ["LAYER", ...], where each further chunk begins',
    )
    memory: Annotated[Bytes, Field(ge=1 << 16)] | None = Field(
        None,
        description="bytes a rank may hold of the network: weights, gradients, optimizer state, activations",
    )
    recompute: bool = Field(
        False,
        description="keep only the inputs of a stage's microbatches and compute its activations again for backward:"
        " less memory, up to a third more work",
    )
    allreduce: Literal["auto", "horovod", "mpi"] = Field(
        "auto",
        description="who sums gradients; auto decides by a fixed rule and says why",
    )

    @property
    def chunks_per_stage(self) -> int:
        """Chunks of the network that a stage holds: more than one only where a schedule uses them."""
        return self.chunks if self.schedule == "interleaved" and self.stages > 1 else 1

    @model_validator(mode="after")
    def _names_of_the_cut(self) -> "Grid":
        further = self.stages * self.chunks_per_stage - 1
        if self.stages > 1 and not isinstance(self.cut, str) and len(self.cut) != further:
            factors = f"stages = {self.stages}" + (f" x chunks = {self.chunks}" if self.chunks_per_stage > 1 else "")
            raise ValueError(
                f"cut names {len(self.cut)} layers, but {factors} makes {further + 1} chunks; give {further}:"
                " the layer that each chunk after the first begins with"
            )
        return self


class Data(Table):
    """The HDF5 files, what is in them, and how they are split."""

    file: PathList | None = Field(
        None,
        examples=["data.h5"],
        description="an HDF5 file, a glob or a list of them; relative to this input file",
    )
    phase: Name | None = Field(None, description="a preprocess phase whose set is used, in place of file")
    inputs: Annotated[str, Field(min_length=1)] = Field(description="path of the dataset; axis 0 is the sample")
    targets: Annotated[str, Field(min_length=1)] = Field(
        description="path of the dataset of labels or values; axis 1 is the position where the network has an output"
        " for each (pooling none)"
    )
    task: Literal["classification", "regression"] = Field(
        "classification", description="integer labels, or values (one or more a sample)"
    )
    sample_shape: Positives | None = Field(
        None,
        description="of one sample as stored; checked against the file, and lets check count without opening it",
    )
    classes: Annotated[int, Field(ge=2, le=2**31)] | None = Field(
        None, description="number of classes; default the largest label + 1, of tied weights the vocabulary"
    )
    class_names: tuple[str, ...] | None = Field(
        None, strict=False, description="of the classes 0, 1, 2, ...; default those that the targets carry, if any"
    )
    layout: Literal["channels_first", "channels_last"] = Field(
        "channels_first",
        description="of samples with three axes (C, H, W) or (H, W, C)",
    )
    standardise: Literal["auto", "channel", "feature", "all", "none"] = Field(
        "auto",
        description="to mean 0, deviation 1 of the training part; auto: images by channel, vectors by feature",
    )
    validation: Fraction = Field(0.1, description="share of the samples held out to choose the best network")
    test: Fraction = Field(0.1, description="share of the samples held out for evaluate")
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None,
        description="which samples are held out; default [run] seed. With it runs of other seeds hold out the same",
    )
    memory: Annotated[Bytes, Field(ge=1 << 16)] = Field(
        256 << 20, description="bytes a rank may hold of the data at once, at most"
    )

    @model_validator(mode="after")
    def _parts(self) -> "Data":
        if (self.file is None) == (self.phase is None) and self.inputs:  # NO_DATA has neither
            both = "are both given" if self.file else "are both missing"
            raise ValueError(f"file and phase {both}; one of them says where the samples are")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test = {self.validation + self.test:g} leaves nothing to train on")
        return self


# That of an input file whose phases need none: it names no file.
NO_DATA = Data.model_construct(file=None, inputs="", targets="")
SHARES = ("validation", "test")
OPTIONAL = {"quantum", "preprocess", "export", "predict"}  # kinds of phases that can do without [data] and [network]


def _without(raw: Any) -> Any:
    """The tables that some kinds of phases do not need, for an input file that leaves them out and has no others.

    Where a preprocess phase divides the set that [data] names, its shares are those of [data].
    """
    phases = raw.get("phase") if isinstance(raw, dict) else None
    tables = [one for one in phases if isinstance(one, dict)] if isinstance(phases, list) else []
    kinds = [one.get("kind") for one in tables]
    data = raw.get("data") if isinstance(raw, dict) else None
    if isinstance(data, dict) and "phase" in data:
        made = next((one for one in tables if one.get("name") == data["phase"]), {})
        shares = {key: made[key] for key in SHARES if key in made}
        raw = {**raw, "data": {**dict.fromkeys(SHARES, 0.0), **shares, **data} if shares else data}
    return {"data": NO_DATA, "network": NoNetwork(), **raw} if kinds and set(kinds) <= OPTIONAL else raw


class Input(Table):
    """A whole input file."""

    run: Run
    grid: Grid = Grid()
    data: Data
    network: Network
    phase: Annotated[tuple[Phase, ...], Field(strict=False, min_length=1)]

    _optional = model_validator(mode="before")(_without)

    @property
    def has_data(self) -> bool:
        """Whether there is a [data] table."""
        return (self.data.file or self.data.phase) is not None

    @property
    def split_seed(self) -> int:
        """What decides which samples are held out."""
        return self.run.seed if self.data.split_seed is None else self.data.split_seed

    @model_validator(mode="after")
    def _names(self) -> "Input":
        names = [p.name for p in self.phase]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two phases have the name {twice[0]!r}; give each its own")
        if NEW in names:
            raise ValueError(f"a phase cannot be called {NEW!r}: the word means a network with starting weights")
        if self.network.kind == "none" and any(p.kind not in OPTIONAL for p in self.phase):
            raise ValueError('[network] kind = "none" is for phases that make no network; the others need one')
        if ALL in names:
            raise ValueError(f"a phase cannot be called {ALL!r}: the word means the networks of all phases before")
        return self


__all__ = ["Count", "Data", "Grid", "Input", "Positive", "Run"]
