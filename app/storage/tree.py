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

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from app.storage.leaves import ARRAY_KINDS, Array, Later, Leaf, Scalar, decoded, encoded, encoded_list

Value: TypeAlias = "Tree | Array | Later | Scalar | list[Value]"
Tree: TypeAlias = "dict[str, Value]"
Place: TypeAlias = tuple[str, ...]
Keep: TypeAlias = Callable[[Place], bool]

# Deeper is a mistake (a dict that holds itself) or a file made to exhaust the stack.
DEEPEST = 64


class Item(NamedTuple):
    """One thing to store, in the order of the tree: a group that begins ("dict", "list") or ends ("end"), an empty
    dataset ("none"), or a dataset ("leaf").
    """

    what: str
    name: bytes
    place: Place
    leaf: Leaf | None = None

    @property
    def form(self) -> tuple[object, ...]:
        """All that decides where things lie in the file: everything but the values."""
        return (self.what, self.name, *self.leaf[:4]) if self.leaf is not None else (self.what, self.name)


class Extent(NamedTuple):
    """Where the values of a dataset belong in its HDF5 file, counted in bytes, and what gives them."""

    offset: int
    bytes: int
    place: Place
    content: Callable[[], np.ndarray]


def items_of(tree: Tree) -> list[Item]:
    """What is to be stored of a tree. Raises TypeError with the place of a value that has no exact form in HDF5."""
    items: list[Item] = []
    _add_items(items, tree, (), 0)
    return items


def lay_out(group: Any, items: Sequence[Item]) -> list[Extent]:
    """Make groups and datasets in an empty h5py group; the values still to be put there, in the order of the items."""
    return _Writer().write(group.id, items)


def refilled(extents: Sequence[Extent], items: Sequence[Item]) -> list[Extent]:
    """The same places with other values, from items of the same form."""
    leaves = [item.leaf for item in items if item.leaf is not None and item.leaf.bytes]
    return [extent._replace(content=leaf.content) for extent, leaf in zip(extents, leaves, strict=True)]


def read_tree(group: Any, keep: Keep | None = None) -> Tree:
    """The tree stored in an h5py group, of its leaves those whose place `keep` takes; a list is one leaf.

    Raises ValueError for what `lay_out` would not have made.
    """
    from h5py import h5g

    # A file's own id does not know the order of its links, the root group does.
    return _Reader().read_dict(h5g.open(group.id, b"."), (), 0, keep)


def check_tree(group: Any) -> None:
    """Walk the headers below an h5py group and read no values. Raises ValueError for what `lay_out` does not make.

    So no link, layout or type in it leads to another file.
    """
    from h5py import h5g

    _Reader().look(h5g.open(group.id, b"."), (), 0)


def merged(tree: Tree, changes: Tree) -> Tree:
    """A new tree: `changes` over `tree`; new keys come last, arrays are shared."""
    result: Tree = {key: merged(value, {}) if isinstance(value, dict) else value for key, value in tree.items()}
    for key, value in changes.items():
        older = result.get(key)
        if isinstance(value, dict):
            result[key] = merged(older if isinstance(older, dict) else {}, value)
        else:
            result[key] = value
    return result


def escape(key: str) -> str:
    """The HDF5 link name of a key of a tree."""
    name = re.sub("[/%\x00\ud800-\udfff]", _escaped, key)
    # HDF5 reads "." as the group itself; an empty name is not allowed.
    return re.sub(r"^\.+$", lambda dots: "%002E" * len(dots[0]), name) or "%"


def unescape(name: str) -> str:
    """The key of a tree that `escape` made `name` from."""
    return "" if name == "%" else re.sub("%([0-9A-F]{4})", lambda digits: chr(int(digits[1], 16)), name)


def shown(place: Place) -> str:
    """A place in a tree as a user reads it."""
    return "/".join(place) or "the tree"


@functools.lru_cache(1 << 16)  # the names of a checkpoint are those of the one before
def _link_name(key: str) -> bytes:
    return escape(key).encode()


def _escaped(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):04X}"


def _add_items(items: list[Item], tree: Tree, place: Place, depth: int) -> None:
    if depth > DEEPEST:
        raise TypeError(f"{shown(place)}: more than {DEEPEST} levels")
    for key, value in tree.items():
        if not isinstance(key, str):
            raise TypeError(f"{shown(place)}: the key {key!r} is a {type(key).__name__}, expected a str")
        _add_value(items, value, _link_name(key), (*place, key), depth)


def _add_value(items: list[Item], value: Value, name: bytes, place: Place, depth: int) -> None:
    if isinstance(value, dict):
        items.append(Item("dict", name, place))
        _add_items(items, value, place, depth + 1)
        items.append(Item("end", b"", place))
    elif isinstance(value, list):
        _add_list(items, value, name, place, depth)
    elif value is None:
        items.append(Item("none", name, place))
    else:
        try:
            items.append(Item("leaf", name, place, encoded(value)))
        except TypeError as error:
            raise TypeError(f"{shown(place)}: {error}") from None


def _add_list(items: list[Item], value: list[Value], name: bytes, place: Place, depth: int) -> None:
    column = encoded_list(value)
    if column is not None:
        items.append(Item("leaf", name, place, column))
        return
    items.append(Item("list", name, place))
    if depth > DEEPEST:
        raise TypeError(f"{shown(place)}: more than {DEEPEST} levels")
    for number, item in enumerate(value):
        _add_value(items, item, str(number).encode(), (*place, str(number)), depth + 1)
    items.append(Item("end", b"", place))


class _Writer:
    """Makes datasets through h5py's low-level calls (50 us instead of 200), each with its room but without values."""

    def __init__(self) -> None:
        from h5py import h5d, h5g, h5p, h5s

        self.h5d, self.h5g, self.h5s = h5d, h5g, h5s
        self.types: dict[np.dtype, Any] = {}
        self.scalar = h5s.create(h5s.SCALAR)
        self.dataset_rules = h5p.create(h5p.DATASET_CREATE)
        self.dataset_rules.set_obj_track_times(False)  # the same tree gives the same bytes
        self.dataset_rules.set_layout(h5d.CONTIGUOUS)
        self.dataset_rules.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self.dataset_rules.set_fill_time(h5d.FILL_TIME_NEVER)
        self.group_rules = h5p.create(h5p.GROUP_CREATE)
        self.group_rules.set_obj_track_times(False)
        self.group_rules.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        self.link_rules = h5p.create(h5p.LINK_CREATE)
        self.link_rules.set_char_encoding(1)  # UTF-8

    def write(self, group: Any, items: Sequence[Item]) -> list[Extent]:
        groups, extents = [group], []
        for item in items:
            if item.what == "end":
                groups.pop()
            elif item.what == "none":
                space, kind = self.h5s.create(self.h5s.NULL), self.type(np.dtype("f8"))
                self.h5d.create(groups[-1], item.name, kind, space, self.dataset_rules, self.link_rules)
            elif item.leaf is not None:
                extents += self.leaf(groups[-1], item.name, item.leaf, item.place)
            else:
                groups.append(self.group(groups[-1], item.name))
                if item.what == "list":
                    self.mark(groups[-1], b"type", "list")
        return extents

    def group(self, group: Any, name: bytes) -> Any:
        return self.h5g.create(group, name, lcpl=self.link_rules, gcpl=self.group_rules)

    def leaf(self, group: Any, name: bytes, leaf: Leaf, place: Place) -> list[Extent]:
        space = self.h5s.create_simple(leaf.shape) if leaf.shape else self.scalar
        dataset = self.h5d.create(group, name, self.type(leaf.dtype), space, self.dataset_rules, self.link_rules)
        if leaf.kind:
            self.mark(dataset, b"type", leaf.kind)
        if leaf.torch_dtype:
            self.mark(dataset, b"torch_dtype", leaf.torch_dtype)
        size = dataset.get_storage_size()
        return [Extent(dataset.get_offset(), size, place, leaf.content)] if size else []

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


class _Reader:
    """Reads what `_Writer` made, and refuses links, layouts and types that it does not make."""

    def __init__(self) -> None:
        from h5py import h5a, h5d, h5g, h5l, h5o, h5s

        self.h5a, self.h5d, self.h5g, self.h5l, self.h5o, self.h5s = h5a, h5d, h5g, h5l, h5o, h5s
        self.seen: set[int] = set()

    def read_dict(self, group: Any, place: Place, depth: int, keep: Keep | None) -> Tree:
        tree: Tree = {}
        for name, thing in self.members(group, place, depth):
            where = (*place, unescape(name))
            if keep is None or self.is_dict(thing) or keep(where):
                tree[where[-1]] = self.value(thing, where, depth, keep)
        return tree

    def read_list(self, group: Any, place: Place, depth: int) -> list[Value]:
        return [self.value(thing, (*place, name), depth, None) for name, thing in self.members(group, place, depth)]

    def members(self, group: Any, place: Place, depth: int) -> Iterator[tuple[str, Any]]:
        from h5py import h5

        if depth > DEEPEST:
            raise ValueError(f"{shown(place)}: more than {DEEPEST} levels")
        names: list[bytes] = []
        ordered = group.get_create_plist().get_link_creation_order()
        group.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if ordered else h5.INDEX_NAME)
        for raw in names:
            name = raw.decode()
            # A soft or external link may lead to any file of this machine.
            link = group.links.get_info(raw)
            if link.type != self.h5l.TYPE_HARD:
                raise ValueError(f"{shown((*place, name))}: a link to somewhere else")
            if link.u in self.seen:  # a ring, or one dataset under a thousand names
                raise ValueError(f"{shown((*place, name))}: stored under another name as well")
            self.seen.add(link.u)
            yield name, self.h5o.open(group, raw)

    def look(self, group: Any, place: Place, depth: int) -> None:
        for name, thing in self.members(group, place, depth):
            where = (*place, unescape(name))
            self.marked(thing, b"type")
            if isinstance(thing, self.h5g.GroupID):
                self.look(thing, where, depth + 1)
            else:
                self.stored(self.dataset(thing, where), where)
                self.marked(thing, b"torch_dtype")

    def is_dict(self, thing: Any) -> bool:
        return isinstance(thing, self.h5g.GroupID) and self.marked(thing, b"type") != "list"

    def value(self, thing: Any, place: Place, depth: int, keep: Keep | None) -> Value:
        if self.is_dict(thing):
            return self.read_dict(thing, place, depth + 1, keep)
        if isinstance(thing, self.h5g.GroupID):
            return self.read_list(thing, place, depth + 1)
        if self.dataset(thing, place).get_space().get_simple_extent_type() == self.h5s.NULL:
            return None
        kind, torch_dtype = self.marked(thing, b"type"), self.marked(thing, b"torch_dtype")
        return decoded(self.array(thing, place), kind, torch_dtype, shown(place))

    def dataset(self, thing: Any, place: Place) -> Any:
        if not isinstance(thing, self.h5d.DatasetID):
            raise ValueError(f"{shown(place)}: neither a group nor a dataset")
        return thing

    def stored(self, dataset: Any, place: Place) -> tuple[tuple[int, ...], np.dtype]:
        """The shape and type of values that are stored here, all of them."""
        if dataset.get_space().get_simple_extent_type() == self.h5s.NULL:
            return (0,), dataset.dtype
        shape, dtype = dataset.shape, dataset.dtype
        rules = dataset.get_create_plist()
        if rules.get_layout() != self.h5d.CONTIGUOUS or rules.get_external_count():
            raise ValueError(f"{shown(place)}: values stored in chunks or in another file")
        if dtype.kind not in ARRAY_KINDS + "S":
            raise ValueError(f"{shown(place)}: values of type {dtype}")
        bytes_needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        # Bounds the memory by the file's own size; HDF5 itself would invent values that are not stored.
        if dataset.get_storage_size() != bytes_needed:
            raise ValueError(f"{shown(place)}: {dataset.get_storage_size()} bytes stored, {bytes_needed} expected")
        return shape, dtype

    def array(self, dataset: Any, place: Place) -> np.ndarray:
        shape, dtype = self.stored(dataset, place)
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
