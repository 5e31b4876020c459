"""References as they travel: exact, small, and checked where they come from strangers."""

import base64
import json
import zlib

import numpy as np
import pytest

from app.data.features import input_features
from app.data.profile import profile_of
from app.data.transform import Transform
from app.inference.references import Reference, confidence, output_features, output_values


def made(features: int) -> Reference:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(2000, features)).astype(np.float32)
    of = input_features((features,), Transform(), 1024)
    logits = draw.normal(size=(3000, 10)).astype(np.float32)
    outputs = output_features(True, 10)
    profiles = {
        name: profile_of(outputs[name], values, 3000) for name, values in output_values(outputs, logits).items()
    }
    return Reference(profile_of(of, of.values(inputs, 0, 10**9), 2000), profiles, "validation")


@pytest.mark.parametrize("features", [3, 64, 1024])
def test_a_text_holds_all_of_it_in_little_room(features):
    reference = made(features)
    text = reference.to_json()
    assert len(text) < 200_000
    again = Reference.from_json(text)
    assert again.part == "validation"
    for one, other in (
        (reference.inputs, again.inputs),
        *((v, again.outputs[k]) for k, v in reference.outputs.items()),
    ):
        assert one.features == other.features
        np.testing.assert_array_equal(one.edges, other.edges, strict=True)
        np.testing.assert_array_equal(one.counts, other.counts, strict=True)


def test_a_tree_holds_all_of_it():
    reference = made(5)
    assert Reference.from_tree(reference.to_tree()).to_json() == reference.to_json()


def array(**changes: object) -> dict:
    content = base64.b64encode(zlib.compress(np.zeros((3, 64)).tobytes())).decode()
    return {"dtype": "<f8", "dims": [3, 64], "zlib": content, **changes}


@pytest.mark.parametrize(
    "edges",
    [
        array(dims=[3, 63]),
        array(dims=[3, 65]),
        array(dims=[-1, -192]),
        array(dims=[2**40, 2**40]),
        array(dtype="|O"),
        array(zlib="AAAA"),
        array(zlib="no base64"),
        array(zlib=base64.b64encode(zlib.compress(bytes(10**7))).decode()),
        7,
        None,
    ],
)
def test_texts_of_strangers_are_checked(edges):
    tree = json.loads(made(3).to_json())
    tree["inputs"]["edges"] = edges
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Reference.from_json(json.dumps(tree))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": 3, "outputs": {}, "part": ""}', "null"])
def test_other_texts_are_refused(text):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Reference.from_json(text)


def test_confidence_is_the_largest_probability():
    logits = np.array([[1e4, 0, -1e4], [np.log(3), 0, -np.inf]], np.float32)
    np.testing.assert_allclose(confidence(logits), [1, 0.75], rtol=1e-6)


def test_of_many_values_evenly_spaced_ones_are_compared():
    outputs = np.arange(600.0).reshape(3, 200)
    features = output_features(False, 200)
    values = output_values(features, outputs)["value"]
    assert values.shape == (64, 3)
    np.testing.assert_array_equal(values[:, 0], np.arange(64) * 200 // 64)
