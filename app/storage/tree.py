"""A tree of named numbers, arrays, tensors and texts in HDF5, and back, bit for bit and without pickle.

How a value is stored (`type` is an attribute of the dataset or group):

    dict                group, links in the order of the keys
    numpy array         contiguous dataset; `type = "array"` only where it has no dimension
    torch tensor        contiguous dataset, `type = "tensor"`; types unknown to HDF5 as unsigned integers,
                        with the attribute `torch_dtype`
    int float bool str  dataset without dimension (int64 or uint64, float64, enum FALSE/TRUE, UTF-8 of fixed length)
    None                empty dataset
    list                dataset of one dimension, `type = "list"`; a list of mixed values a group, `type = "list"`
    awkward text        bytes, `type = "text"` (an empty text, or one with NUL or a lone surrogate)

A key becomes a link name with `/`, `%`, NUL and lone surrogates written as % and four hexadecimal digits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Scalar: TypeAlias = int | float | str | bool | None
Value: TypeAlias = "Tree | torch.Tensor | np.ndarray | Scalar | list[Value]"
Tree: TypeAlias = "dict[str, Value]"

# Deeper is a mistake (a dict that holds itself) or a file made to exhaust the stack.
DEEPEST = 64
_ARRAY_KINDS = "biufc"
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def write_tree(group: Any, tree: Tree) -> None:
    """Write `tree` into an empty h5py group; TypeError names the place of a value that has no exact form in HDF5."""
    _Writer().write(group.id, tree, (), 0)


def read_tree(group: Any) -> Tree:
    """The tree stored in an h5py group; ValueError names what `write_tree` would not have written."""
    from h5py import h5g

    # A file's own id does not know the order of its links, the root group does.
    return _Reader().read_dict(h5g.open(group.id, b"."), "", 0)


def escape(key: str) -> str:
    """The HDF5 link name of a key of a tree."""
    name = re.sub("[/%\x00\ud800-\udfff]", _escaped, key)
    # HDF5 reads "." as the group itself; an empty name is not allowed.
    return re.sub(r"^\.+$", lambda dots: "%002E" * len(dots[0]), name) or "%"


def unescape(name: str) -> str:
    """The key of a tree that `escape` made `name` from."""
    return "" if name == "%" else re.sub("%([0-9A-F]{4})", lambda digits: chr(int(digits[1], 16)), name)


def _escaped(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):04X}"


def tensor_bytes(tensor: torch.Tensor) -> tuple[np.ndarray, str | None]:
    """A tensor's values as a contiguous array, and the name of its dtype where numpy has none (bf16, float8)."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError(f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; expected a dense one")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    try:
        return plain.numpy(), None
    except TypeError:
        unsigned = torch.from_numpy(np.empty(0, _UNSIGNED[plain.element_size()])).dtype
        return plain.view(unsigned).numpy(), str(plain.dtype).removeprefix("torch.")


class _Writer:
    """Writes trees through h5py's low-level calls: a dataset costs 50 us instead of 200."""

    def __init__(self) -> None:
        from h5py import h5d, h5g, h5p, h5s

        self.h5d, self.h5g, self.h5s = h5d, h5g, h5s
        self.types: dict[np.dtype, Any] = {}
        self.scalar = h5s.create(h5s.SCALAR)
        self.dataset_rules = h5p.create(h5p.DATASET_CREATE)
        self.dataset_rules.set_obj_track_times(False)  # the same tree gives the same bytes
        self.dataset_rules.set_layout(h5d.CONTIGUOUS)
        self.dataset_rules.set_fill_time(h5d.FILL_TIME_NEVER)
        self.group_rules = h5p.create(h5p.GROUP_CREATE)
        self.group_rules.set_obj_track_times(False)
        self.group_rules.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        self.link_rules = h5p.create(h5p.LINK_CREATE)
        self.link_rules.set_char_encoding(1)  # UTF-8

    def write(self, group: Any, tree: Tree, place: tuple[str, ...], depth: int) -> None:
        if depth > DEEPEST:
            raise TypeError(f"{_shown(place)}: more than {DEEPEST} levels")
        for key, value in tree.items():
            if not isinstance(key, str):
                raise TypeError(f"{_shown(place)}: the key {key!r} is a {type(key).__name__}, expected a str")
            self.value(group, escape(key).encode(), value, (*place, key), depth)

    def value(self, group: Any, name: bytes, value: Value, place: tuple[str, ...], depth: int) -> None:
        if isinstance(value, dict):
            self.write(self.group(group, name), value, place, depth + 1)
        elif isinstance(value, list):
            self.list(group, name, value, place, depth)
        elif value is None:
            space = self.h5s.create(self.h5s.NULL)
            self.h5d.create(group, name, self.type(np.dtype("f8")), space, self.dataset_rules, self.link_rules)
        else:
            try:
                array, kind, torch_dtype = _leaf(value)
            except TypeError as error:
                raise TypeError(f"{_shown(place)}: {error}") from None
            dataset = self.array(group, name, array)
            if kind:
                self.mark(dataset, b"type", kind)
            if torch_dtype:
                self.mark(dataset, b"torch_dtype", torch_dtype)

    def list(self, group: Any, name: bytes, value: list[Value], place: tuple[str, ...], depth: int) -> None:
        column = _column(value)
        if column is not None:
            self.mark(self.array(group, name, column), b"type", "list")
            return
        items = self.group(group, name)
        self.mark(items, b"type", "list")
        if depth > DEEPEST:
            raise TypeError(f"{_shown(place)}: more than {DEEPEST} levels")
        for number, item in enumerate(value):
            self.value(items, str(number).encode(), item, (*place, str(number)), depth + 1)

    def group(self, group: Any, name: bytes) -> Any:
        return self.h5g.create(group, name, lcpl=self.link_rules, gcpl=self.group_rules)

    def array(self, group: Any, name: bytes, array: np.ndarray) -> Any:
        space = self.h5s.create_simple(array.shape) if array.ndim else self.scalar
        kind = self.type(array.dtype)
        dataset = self.h5d.create(group, name, kind, space, self.dataset_rules, self.link_rules)
        if array.size:
            dataset.write(self.h5s.ALL, self.h5s.ALL, array, kind)
        return dataset

    def mark(self, thing: Any, name: bytes, text: str) -> None:
        from h5py import h5a

        word = np.array(text.encode())
        kind = self.type(word.dtype)
        h5a.create(thing, name, kind, self.scalar).write(word, kind)

    def type(self, dtype: np.dtype) -> Any:
        """The HDF5 type of a numpy dtype; texts are UTF-8 of fixed length."""
        if dtype not in self.types:
            from h5py import h5t

            kind = h5t.py_create(dtype, logical=True)
            if dtype.kind == "S":
                kind.set_cset(h5t.CSET_UTF8)
            self.types[dtype] = kind
        return self.types[dtype]


def _leaf(value: Value) -> tuple[np.ndarray, str | None, str | None]:
    """What to store for one value: array, `type` attribute, `torch_dtype` attribute."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        array, torch_dtype = tensor_bytes(value)
        return array, "tensor", torch_dtype
    if isinstance(value, np.ndarray):
        return _checked(value), None if value.ndim else "array", None
    if isinstance(value, str):
        plain = _plain_text(value)
        if plain is not None:
            return np.array(plain), None, None
        return np.frombuffer(value.encode("utf-8", "surrogatepass"), np.uint8), "text", None
    if isinstance(value, bool | float):
        return np.array(value, bool if isinstance(value, bool) else np.float64), None, None
    if isinstance(value, int):
        return np.array(value, _integer_type([value])), None, None
    raise TypeError(
        f"a {type(value).__name__}; expected a dict, tensor, array, int, float, str, bool, None or a list of these"
    )


def _checked(array: np.ndarray) -> np.ndarray:
    if type(array) not in (np.ndarray, np.memmap):
        raise TypeError(f"a {type(array).__name__}; expected a plain numpy array")
    if array.dtype.kind not in _ARRAY_KINDS or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        raise TypeError(f"an array of dtype {array.dtype}; expected numbers or bool (texts go in a list of str)")
    return np.asarray(array, order="C")


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


def _column(values: list[Value]) -> np.ndarray | None:
    """A list of scalars of one type as an array, None where it needs a group (mixed, nested, empty, awkward texts)."""
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is bool or kind is float:
        return np.array(values, kind)
    if kind is int:
        try:
            return np.array(values, _integer_type(values))  # type: ignore[arg-type]
        except TypeError:
            return None
    if kind is str:
        texts = [_plain_text(value) for value in values]  # type: ignore[arg-type]
        return None if None in texts else np.array(texts)
    return None


class _Reader:
    """Reads what `_Writer` wrote, and refuses links, layouts and types that it does not write."""

    def __init__(self) -> None:
        from h5py import h5a, h5d, h5g, h5l, h5o, h5s

        self.h5a, self.h5d, self.h5g, self.h5l, self.h5o, self.h5s = h5a, h5d, h5g, h5l, h5o, h5s
        self.seen: set[int] = set()

    def read_dict(self, group: Any, place: str, depth: int) -> Tree:
        return {unescape(name): value for name, value in self.items(group, place, depth)}

    def items(self, group: Any, place: str, depth: int) -> Iterator[tuple[str, Value]]:
        from h5py import h5

        if depth > DEEPEST:
            raise ValueError(f"{place}: more than {DEEPEST} levels")
        names: list[bytes] = []
        ordered = group.get_create_plist().get_link_creation_order()
        group.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if ordered else h5.INDEX_NAME)
        for raw in names:
            name = raw.decode()
            where = f"{place}/{name}"
            # A soft or external link may lead to any file of this machine.
            link = group.links.get_info(raw)
            if link.type != self.h5l.TYPE_HARD:
                raise ValueError(f"{where}: a link to somewhere else")
            if link.u in self.seen:  # a ring, or one dataset under a thousand names
                raise ValueError(f"{where}: stored under another name as well")
            self.seen.add(link.u)
            yield name, self.value(self.h5o.open(group, raw), where, depth)

    def value(self, thing: Any, place: str, depth: int) -> Value:
        kind = self.marked(thing, b"type")
        if isinstance(thing, self.h5g.GroupID):
            if kind == "list":
                return [item for _, item in self.items(thing, place, depth + 1)]
            return self.read_dict(thing, place, depth + 1)
        if not isinstance(thing, self.h5d.DatasetID):
            raise ValueError(f"{place}: neither a group nor a dataset")
        if thing.get_space().get_simple_extent_type() == self.h5s.NULL:
            return None
        return _decoded(self.array(thing, place), kind, self.marked(thing, b"torch_dtype"), place)

    def array(self, dataset: Any, place: str) -> np.ndarray:
        shape, dtype = dataset.shape, dataset.dtype
        rules = dataset.get_create_plist()
        if rules.get_layout() != self.h5d.CONTIGUOUS or rules.get_external_count():
            raise ValueError(f"{place}: values stored in chunks or in another file")
        if dtype.kind not in _ARRAY_KINDS + "S":
            raise ValueError(f"{place}: values of type {dtype}")
        bytes_needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        # Bounds the memory by the file's own size; HDF5 itself would invent values that are not stored.
        if dataset.get_storage_size() != bytes_needed:
            raise ValueError(f"{place}: {dataset.get_storage_size()} bytes stored, {bytes_needed} expected")
        array = np.empty(shape, dtype)
        if array.size:
            dataset.read(self.h5s.ALL, self.h5s.ALL, array, dataset.get_type())
        return array

    def marked(self, thing: Any, name: bytes) -> str | None:
        if not self.h5a.exists(thing, name):
            return None
        attribute = self.h5a.open(thing, name)
        if attribute.shape != () or attribute.dtype.kind != "S":
            raise ValueError(f"the attribute {name.decode()} is not a text of fixed length")
        word = np.empty((), attribute.dtype)
        attribute.read(word, attribute.get_type())
        return word.item().decode()


def _decoded(array: np.ndarray, kind: str | None, torch_dtype: str | None, place: str) -> Value:
    if kind == "tensor":
        return _tensor(array, torch_dtype, place)
    if kind == "text":
        return array.tobytes().decode("utf-8", "surrogatepass")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8").tolist()
    if kind == "list":
        return array.tolist()
    return array if array.ndim or kind == "array" else array.item()


def _tensor(array: np.ndarray, torch_dtype: str | None, place: str) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(array)
    if torch_dtype is None:
        return tensor
    dtype = getattr(torch, torch_dtype, None)
    if not isinstance(dtype, torch.dtype) or dtype.itemsize != array.dtype.itemsize:
        raise ValueError(f"{place}: this torch has no dtype {torch_dtype}")
    return tensor.view(dtype)


def _shown(place: tuple[str, ...]) -> str:
    return "/".join(place) or "the tree"
