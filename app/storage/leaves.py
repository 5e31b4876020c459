"""The leaves of a tree as arrays that HDF5 can hold, and back."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Scalar: TypeAlias = int | float | str | bool | None
Array: TypeAlias = "torch.Tensor | np.ndarray"

ARRAY_KINDS = "biufc"
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Later:
    """A tensor or an array that `fetch` gives when its turn to be written comes, in the order of the tree.

    `dtype` is torch's for a tensor, numpy's for an array. TypeError when what is given has another shape or dtype.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | np.dtype
    fetch: Callable[[], Array]


class Leaf(NamedTuple):
    """How a value is stored: an array's shape and dtype, the attributes `type` and `torch_dtype`, and the array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str | None
    torch_dtype: str | None
    content: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        """Of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def encoded(value: Any) -> Leaf:
    """How to store one value; tensors and arrays are copied only when `content` is called, if at all.

    Raises TypeError for what has no exact form in HDF5.
    """
    torch = sys.modules.get("torch")
    if isinstance(value, Later):
        return _later(value)
    if torch is not None and isinstance(value, torch.Tensor):
        _refuse_unusual(value)
        return _tensor_leaf(tuple(value.shape), value.dtype, functools.partial(_values, value))
    if isinstance(value, np.ndarray):
        _refuse_dtype(value)
        kind = None if value.ndim else "array"
        return Leaf(value.shape, value.dtype, kind, None, lambda: np.asarray(value, order="C"))
    if isinstance(value, str):
        plain = _plain_text(value)
        if plain is not None:
            return _known(np.array(plain))
        return _known(np.frombuffer(value.encode("utf-8", "surrogatepass"), np.uint8), "text")
    if isinstance(value, bool | float):
        return _known(np.array(value, bool if isinstance(value, bool) else np.float64))
    if isinstance(value, int):
        return _known(np.array(value, _integer_type([value])))
    raise TypeError(
        f"a {type(value).__name__}; expected a dict, tensor, array, int, float, str, bool, None or a list of these"
    )


def encoded_list(values: list[Any]) -> Leaf | None:
    """A list of scalars of one type as one array; None for one that is mixed, nested, empty or of awkward texts."""
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is bool or kind is float:
        return _known(np.array(values, kind), "list")
    if kind is int:
        try:
            return _known(np.array(values, _integer_type(values)), "list")
        except TypeError:
            return None
    if kind is str:
        texts = [_plain_text(value) for value in values]
        return None if None in texts else _known(np.array(texts), "list")
    return None


def decoded(array: np.ndarray, kind: str | None, torch_dtype: str | None, place: str) -> Any:
    """The value that was stored so; ValueError, with its place, when this torch does not know its dtype."""
    if kind == "tensor":
        return _tensor(array, torch_dtype, place)
    if kind == "text":
        return array.tobytes().decode("utf-8", "surrogatepass")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8").tolist()
    if kind == "list":
        return array.tolist()
    return array if array.ndim or kind == "array" else array.item()


def _known(array: np.ndarray, kind: str | None = None) -> Leaf:
    return Leaf(array.shape, array.dtype, kind, None, lambda: array)


def _later(later: Later) -> Leaf:
    def content() -> np.ndarray:
        given = encoded(later.fetch())
        if given[:4] != expected[:4]:
            found, wanted = (f"{leaf.torch_dtype or leaf.dtype} of shape {leaf.shape}" for leaf in (given, expected))
            raise TypeError(f"{found} ({given.kind or 'array'}) was given later, expected {wanted}")
        return given.content()

    expected = _promised(later, content)
    return expected


def _promised(later: Later, content: Callable[[], np.ndarray]) -> Leaf:
    shape, torch = tuple(later.shape), sys.modules.get("torch")
    if torch is not None and isinstance(later.dtype, torch.dtype):
        return _tensor_leaf(shape, later.dtype, content)
    array = np.empty((0,) * len(shape), later.dtype)  # type: ignore[arg-type] # so that only the dtype is looked at
    return encoded(array)._replace(shape=shape, content=content)


def _tensor_leaf(shape: tuple[int, ...], dtype: torch.dtype, content: Callable[[], np.ndarray]) -> Leaf:
    plain, name = _stored_dtype(dtype)
    return Leaf(shape, plain, "tensor", name, content)


@functools.cache
def _stored_dtype(dtype: torch.dtype) -> tuple[np.dtype, str | None]:
    """numpy's dtype for torch's, and torch's name where numpy has none (bf16, float8): then unsigned integers."""
    import torch

    try:
        return torch.empty(0, dtype=dtype).numpy().dtype, None
    except TypeError:
        return np.dtype(_UNSIGNED[dtype.itemsize]), str(dtype).removeprefix("torch.")


def _values(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values as a contiguous array; the tensor's own memory where that can be."""
    dtype, name = _stored_dtype(tensor.dtype)
    if name is None:
        return np.asarray(tensor.numpy(force=True), order="C")
    import torch

    same_size = torch.from_numpy(np.empty(0, dtype)).dtype
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().view(same_size).numpy()


def _refuse_unusual(tensor: torch.Tensor) -> None:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError(f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; expected a dense one")


def _refuse_dtype(array: np.ndarray) -> None:
    if type(array) not in (np.ndarray, np.memmap):
        raise TypeError(f"a {type(array).__name__}; expected a plain numpy array")
    if array.dtype.kind not in ARRAY_KINDS or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        raise TypeError(f"an array of dtype {array.dtype}; expected numbers or bool (texts go in a list of str)")


def _plain_text(text: str) -> bytes | None:
    """UTF-8 of a text, or None where a text of fixed length in HDF5 would not come back the same."""
    if not text or "\0" in text:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


def _integer_type(values: list[int]) -> type[np.integer]:
    low, high = min(values), max(values)
    if low >= -(2**63) and high < 2**63:
        return np.int64
    if low >= 0 and high < 2**64:
        return np.uint64
    raise TypeError(f"an integer beyond 64 bit ({low if low < 0 else high})")


def _tensor(array: np.ndarray, torch_dtype: str | None, place: str) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(array)
    if torch_dtype is None:
        return tensor
    dtype = getattr(torch, torch_dtype, None)
    if not isinstance(dtype, torch.dtype) or dtype.itemsize != array.dtype.itemsize:
        raise ValueError(f"{place}: this torch has no dtype {torch_dtype}")
    return tensor.view(dtype)
