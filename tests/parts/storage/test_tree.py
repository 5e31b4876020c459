"""A tree comes back from HDF5 as it was: values to the bit, types, shapes, order of the keys."""

import io
import math
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.storage.image import Image
from app.storage.tree import escape, read_tree, unescape


def stored(tree):
    """A tree as an open HDF5 file in memory."""
    content = io.BytesIO()
    Image(tree, {}).stream(content.write)
    return h5py.File(content, "r")


def round_trip(tree):
    with stored(tree) as file:
        return read_tree(file)


def assert_same(found, expected, place="tree"):
    assert type(found) is type(expected), place
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            assert_same(found[key], value, f"{place}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{place}/{number}")
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, place
        assert found.shape == expected.shape, place
        as_bytes = [
            tensor.resolve_conj().contiguous().view(-1).untyped_storage() for tensor in (found, expected.clone())
        ]
        assert list(as_bytes[0]) == list(as_bytes[1]), place
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, place
        assert found.shape == expected.shape, place
        assert found.tobytes() == expected.tobytes(), place
    elif isinstance(expected, float):
        assert np.float64(found).tobytes() == np.float64(expected).tobytes(), place
    else:
        assert found == expected, place


TORCH_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.complex128,
    torch.bool, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.uint64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)], ids=str)
def test_tensors_of_every_type_and_shape(dtype, shape):
    tensor = (torch.randn(shape) * 3).abs().to(dtype)
    assert_same(round_trip({"tensor": tensor}), {"tensor": tensor})


def test_tensors_that_are_views():
    base = torch.arange(24.0).reshape(4, 6)
    tree = {
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "expanded": torch.ones(1).expand(5),
        "bf16 transposed": base.bfloat16().t(),
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    assert_same(round_trip(tree), tree)


def test_a_parameter_comes_back_as_a_tensor_that_can_be_written_to():
    found = round_trip({"w": torch.nn.Parameter(torch.ones(2))})["w"]
    found += 1
    assert found.tolist() == [2, 2]
    assert not found.requires_grad


def test_not_a_number_keeps_its_bits():
    bits = torch.tensor([0x7FC00001, -1, 0x7F800000, -0x80000000], dtype=torch.int64).to(torch.int32)
    tree = {"nan": bits.view(torch.float32), "one": math.nan, "inf": -math.inf, "zero": -0.0}
    assert_same(round_trip(tree), tree)


def test_scalars_texts_and_lists():
    tree = {
        "integers": [0, -1, 2**63 - 1, -(2**63)],
        "large": 2**64 - 1,
        "true": True,
        "one": 1,
        "float": 1.0,
        "none": None,
        "text": "temperature in °C ",
        "empty text": "",
        "odd text": "a\0b\n\ud800",
        "long text": "x" * 300_000,
        "texts": ["a", "bé", "a longer one "],
        "odd texts": ["a", "", "\0"],
        "floats": [1.5, math.inf],
        "flags": [True, False],
        "mixed": [1, 2.5, None, "a", True, [2**64 - 1, -1], {"deep": [{}]}],
        "empty list": [],
        "empty dict": {},
        "array": np.array(3),
        "big endian": np.arange(3, dtype=">i4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "no rows": np.empty((0, 3), np.float32),
        "flags array": np.array([[True], [False]]),
    }
    assert_same(round_trip(tree), tree)


KEYS = st.text(max_size=12) | st.sampled_from(
    ["", ".", "..", "a/b", "%", "%002F", "/", "0.conv.weight", "\0", "\ud8ff"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
ARRAYS = hnp.arrays(
    hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufc" and dtype.itemsize <= 16 and dtype.char not in "gG"),
    hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_tree_comes_back(tree):
    assert_same(round_trip(tree), tree)


@settings(max_examples=150, deadline=None)
@given(KEYS)
def test_a_key_is_a_link_name_that_hdf5_takes(key):
    assert unescape(escape(key)) == key
    assert escape(key)
    assert not set("/\0") & set(escape(key))
    assert escape(key) not in (".", "..")


def test_a_reader_with_plain_h5py_sees_names_and_values():
    with stored({"weights": {"0.conv.weight": torch.ones(2, 3)}, "seed": 7, "name": "digits"}) as file:
        assert file["weights/0.conv.weight"][:].tolist() == [[1, 1, 1], [1, 1, 1]]
        assert file["weights/0.conv.weight"].chunks is None
        assert file["seed"][()] == 7
        assert file["name"].asstr()[()] == "digits"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**64, "64 bit"),
        (-(2**63) - 1, "64 bit"),
        (b"bytes", "bytes"),
        ((1, 2), "tuple"),
        ({1, 2}, "set"),
        (object(), "object"),
        (1j, "complex"),
        (np.array(["a"]), "list of str"),
        (np.array([{}]), "dtype object"),
        (np.array([1], "M8[s]"), "datetime64"),
        (np.ma.masked_array([1], [True]), "Masked"),
        (np.int64(1), "int64"),
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
    ],
)
def test_what_has_no_exact_form_is_refused_with_its_place(value, words):
    for tree in ({"a": {"b.c": value}}, {"a": {"b.c": [1, value]}}):
        with pytest.raises(TypeError, match=r"a/b\.c") as caught:
            round_trip(tree)
        assert words in str(caught.value)


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="state: the key 0 is a int"):
        round_trip({"state": {0: 1.0}})


def test_a_tree_that_holds_itself_is_refused():
    tree: dict = {}
    tree["self"] = tree
    with pytest.raises(TypeError, match="levels"):
        round_trip(tree)
    endless: list = []
    endless.append(endless)
    with pytest.raises(TypeError, match="levels"):
        round_trip({"list": endless})


def test_a_file_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "raw").write_bytes(b"secret" * 4)
    makers = {
        "soft": lambda file: file.__setitem__("a", h5py.SoftLink("/b")),
        "external": lambda file: file.__setitem__("a", h5py.ExternalLink("other.h5", "/")),
        "storage": lambda file: file.create_dataset("a", (24,), "u1", external=[(str(tmp_path / "raw"), 0, 24)]),
        "chunked": lambda file: file.create_dataset("a", data=np.ones(4), chunks=(2,)),
        "objects": lambda file: file.create_dataset("a", data=["x"], dtype=h5py.string_dtype()),
        "huge": lambda file: file.create_dataset("a", (2**40,), "f8"),
        "ring": lambda file: file.create_group("a").__setitem__("b", file["a"]),
        "twice": lambda file: (file.__setitem__("a", [1.0]), file.__setitem__("b", file["a"])),
    }
    for name, make in makers.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        with h5py.File(path, "r") as file, pytest.raises(ValueError, match="^(a|b|a/b): "):
            read_tree(file)


def test_results_are_read_without_torch(tmp_path):
    program = (
        "import io, sys, h5py, numpy as np\n"
        "from app.storage.image import Image\n"
        "from app.storage.tree import read_tree\n"
        "content = io.BytesIO()\n"
        "Image({'loss': np.ones(3), 'n': 1}, {}).stream(content.write)\n"
        "assert read_tree(h5py.File(content, 'r'))['loss'].sum() == 3\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def bytes_of(image):
    content = io.BytesIO()
    image.stream(content.write)
    return content.getvalue()


def changing(step):
    return {
        "weights": {"a": torch.full((3, 4), float(step)), "b": np.arange(5) + step, "empty": np.zeros((0, 2))},
        "step": step,
        "names": ["x", "y"],
        "mixed": [1.5, step, None, {"deep": float(step)}],
        "nothing": None,
        "word": f"step {step}",
    }


@pytest.mark.parametrize("words", [{}, {"written": "2026-01-01T00:00:0%d", "kind": "checkpoint"}])
def test_an_image_like_another_is_the_same_to_the_byte_as_one_made_anew(words):
    image = None
    for step in range(5):
        attributes = {name: text % step if "%" in text else text for name, text in words.items()}
        image = Image(changing(step), attributes, image)
        assert bytes_of(image) == bytes_of(Image(changing(step), attributes))


@pytest.mark.parametrize(
    "other",
    [
        changing(1) | {"step": 2.0},
        changing(1) | {"weights": {"a": torch.zeros(4, 3)}},
        changing(1) | {"names": ["x", "yy"]},
        changing(1) | {"mixed": [1.5, 1, None]},
        {name: value for name, value in changing(1).items() if name != "nothing"},
        dict(reversed(changing(1).items())),
    ],
)
def test_an_image_of_another_form_is_made_anew(other):
    before = Image(changing(0), {"written": "noon"})
    assert bytes_of(Image(other, {"written": "noon"}, before)) == bytes_of(Image(other, {"written": "noon"}))
    assert bytes_of(Image(changing(1), {"written": "tea time"}, before)) == bytes_of(
        Image(changing(1), {"written": "tea time"})
    )


def test_a_text_that_stands_twice_is_not_replaced():
    tree = {"loss": np.ones(3)}
    before = Image(tree, {"written": "noon", "phase": "noon"})
    now = {"written": "dawn", "phase": "noon"}
    assert bytes_of(Image(tree, now, before)) == bytes_of(Image(tree, now))
