"""The keys of the preprocess phase: from raw files to a set that training reads well."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from app.inputfile.conditions import parse
from app.inputfile.kinds import Bytes, Fraction, Name, PathList, Positive, Positives, Table, kind_of

NumberType = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"
]  # fmt: skip
Column = Annotated[str, Field(min_length=1, max_length=1024)]


def _columns(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _condition(value: str) -> str:
    """As given, once it is known that it can be read."""
    parse(value)
    return value


def _categories(value: Any) -> Any:
    """A tuple of different words or of different whole numbers; checked here, as a union would report both halves."""
    if value is None:
        return None
    kinds = {type(one) for one in value} if isinstance(value, list | tuple) else set()
    if len(kinds) != 1 or not kinds <= {str, int}:
        raise ValueError("a list of words, or of whole numbers")
    twice = [one for number, one in enumerate(value) if one in value[:number]]
    if twice:
        raise ValueError(f"each category once, and {twice[0]!r} is there twice")
    return tuple(value)


Columns = Annotated[tuple[Column, ...], Field(strict=False, min_length=1), BeforeValidator(_columns)]
Categories = Annotated[tuple[str | int, ...] | None, BeforeValidator(_categories)]


class Select(Table):
    """Keep these columns alone, in this order."""

    kind: Literal["select"]
    columns: Columns = Field(description="names or globs")


class Rename(Table):
    """Give a column another name; of several old names the one that a file has."""

    kind: Literal["rename"]
    columns: Columns = Field(description="the old name, or the names it has in different files")
    to: Column = Field(description="the new name")


class Cast(Table):
    """Store a column in another type."""

    kind: Literal["cast"]
    columns: Columns = Field(description="names or globs")
    type: NumberType = Field(description="of NumPy; a value that it cannot hold is a bad record")


class Reshape(Table):
    """Give each sample of a column another shape of as many numbers."""

    kind: Literal["reshape"]
    column: Column = Field(description="its name")
    shape: Positives = Field(description="of one sample")


class Stack(Table):
    """Join columns of one shape to one column, along a new last axis; scalars become a vector."""

    kind: Literal["stack"]
    columns: Columns = Field(description="names or globs, in this order; those of a glob as they are in the file")
    to: Column = Field(description="the name of the new column; the old ones go")


class OneHot(Table):
    """A column of categories, words or whole numbers, becomes rows with a single 1."""

    kind: Literal["onehot"]
    column: Column = Field(description="its name")
    categories: Categories = Field(
        None, description="what may occur, in order, anything else is a bad record; default all that occur, sorted"
    )


class Encode(Table):
    """A column of categories becomes class labels 0, 1, 2, ..., whose names are kept beside them."""

    kind: Literal["encode"]
    column: Column = Field(description="its name")
    categories: Categories = Field(
        None, description="what may occur, in order, anything else is a bad record; default all that occur, sorted"
    )


class Filter(Table):
    """Keep the samples of which a condition on their columns is true."""

    kind: Literal["filter"]
    where: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_condition)] = Field(
        description="comparisons of columns and numbers or words with and, or, not, in, + - * / % and brackets:"
        " \"year >= 1990 and kind in ['a', 'b']\"; odd names in backticks"
    )


class Window(Table):
    """Cut time series into windows of rows that follow one another in a file; none spans a row that was left out."""

    kind: Literal["window"]
    length: Positive = Field(description="rows of a window")
    stride: Positive = Field(1, description="rows from the beginning of a window to that of the next")
    columns: Columns = Field(description="what becomes (length, ...); of the others a window has the value of one row")
    ahead: Annotated[int, Field(ge=0, le=2**31)] = Field(
        0, description="rows behind the window's last at which the other columns are taken: what is to be foretold"
    )
    series: Column | None = Field(None, description="a column; a window never spans rows where it changes")


class Standardise(Table):
    """To mean 0 and deviation 1 of the training part."""

    kind: Literal["standardise"]
    columns: Columns = Field(description="names or globs")
    axis: Literal["channel", "feature", "all"] = Field(
        "feature", description="what has constants of its own: the first axis of a sample, each number, nothing"
    )


class MinMax(Table):
    """To the range 0 to 1 of the training part."""

    kind: Literal["minmax"]
    columns: Columns = Field(description="names or globs")
    axis: Literal["channel", "feature", "all"] = Field(
        "feature", description="what has constants of its own: the first axis of a sample, each number, nothing"
    )


Step = Annotated[
    Annotated[Select, Tag("select")]
    | Annotated[Rename, Tag("rename")]
    | Annotated[Cast, Tag("cast")]
    | Annotated[Reshape, Tag("reshape")]
    | Annotated[Stack, Tag("stack")]
    | Annotated[OneHot, Tag("onehot")]
    | Annotated[Encode, Tag("encode")]
    | Annotated[Filter, Tag("filter")]
    | Annotated[Window, Tag("window")]
    | Annotated[Standardise, Tag("standardise")]
    | Annotated[MinMax, Tag("minmax")],
    Discriminator(kind_of),
]
STEPS: dict[str, type[Table]] = {
    "select": Select,
    "rename": Rename,
    "cast": Cast,
    "reshape": Reshape,
    "stack": Stack,
    "onehot": OneHot,
    "encode": Encode,
    "filter": Filter,
    "window": Window,
    "standardise": Standardise,
    "minmax": MinMax,
}
SCALING = (Standardise, MinMax)


class Preprocess(Table):
    """Raw files to one HDF5 set, data/NAME.h5 in the run folder; all ranks share the work."""

    kind: Literal["preprocess"]
    name: Name = Field(description="names the phase and the set it makes")
    file: PathList = Field(
        examples=["raw/*"],
        description="files, globs or folders of images, relative to this input file: HDF5, netCDF-4, npz, npy, CSV,"
        " Parquet, png, jpg; files of different formats may be one set",
    )
    steps: tuple[Step, ...] = Field(
        (),
        strict=False,
        description='what is done to the records, in this order: { kind = "select", columns = ["x", "y"] }; kind:'
        " select, rename, cast, reshape, stack, onehot, encode, filter, window, and last standardise, minmax",
    )
    bad: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what becomes of damaged records and of numbers that are not finite"
    )
    deduplicate: Annotated[tuple[Column, ...], Field(strict=False), BeforeValidator(_columns)] = Field(
        (), description="columns; of samples that are equal in all of them the first is kept"
    )
    shuffle: bool = Field(False, description="put all samples in an order drawn from [run] seed")
    validation: Fraction = Field(0.0, description="share of the samples for the validation part")
    test: Fraction = Field(0.0, description="share of the samples for the test part")
    split_by: Column | None = Field(
        None, description="a column; samples that are equal in it, of one patient say, come into the same part"
    )
    join: Literal["file", "virtual"] = Field(
        "file", description="one file, or a virtual dataset over the files that the ranks wrote"
    )
    compression: Literal["none", "gzip", "lzf", "blosc"] = Field("none", description="of the chunks of the set")
    chunk: Annotated[Bytes, Field(ge=1024, le=1 << 30)] = Field(
        256 << 10, description="bytes of a chunk, about; chunks hold whole samples"
    )
    piece: Annotated[Bytes, Field(ge=1 << 16)] = Field(
        32 << 20, description="bytes of the raw files that are in work at once on a rank, about"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Preprocess":
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test = {self.validation + self.test:g} leaves nothing to train on")
        if sum(isinstance(step, Window) for step in self.steps) > 1:
            raise ValueError("window may be there once in steps")
        scaled = [isinstance(step, SCALING) for step in self.steps]
        if scaled != sorted(scaled):
            raise ValueError(
                "standardise and minmax come last in steps: their constants are those of the training part, which is"
                " known once all other steps are done"
            )
        return self

    @property
    def splits(self) -> bool:
        """Whether the set is divided into parts."""
        return bool(self.validation or self.test)
