"""ONNX files of strangers: run when they can be, else one sentence; nothing of them is followed out of the file."""

import json
import os
import sys

import numpy as np
import pytest

from app.data.signature import Signature
from app.data.statistics import Statistics
from app.data.transform import Transform
from app.errors import ArtifactError, InputError, MachineError
from app.inference.onnx_network import open_onnx, providers

onnx = pytest.importorskip("onnx")
WEIGHT = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
ROWS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def model(
    *, batch="n", shape=(4,), dtype=onnx.TensorProto.FLOAT, operator="MatMul", domain="", outputs=2, metadata=None
):
    """One product of matrices, of inputs of a type that is cast first."""
    helper = onnx.helper
    weight = onnx.numpy_helper.from_array(WEIGHT, "weight")
    nodes = [
        helper.make_node("Cast", ["samples"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node(operator, ["floats", "weight"], ["found"], domain=domain),
    ]
    given = helper.make_tensor_value_info("samples", dtype, [batch, *shape])
    found = helper.make_tensor_value_info("found", onnx.TensorProto.FLOAT, [batch, outputs])
    graph = helper.make_graph(nodes, "graph", [given], [found], [weight])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(made, metadata or {})
    return made


def written(folder, made):
    path = folder / "network.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def refused(path, *words, error=ArtifactError, **keys):
    with pytest.raises(error) as caught:
        open_onnx(path, **keys)
    (text,) = caught.value.problems
    assert [word for word in words if word not in text] == []
    assert str(path) in text or error is not ArtifactError


def test_a_strangers_network_runs(tmp_path):
    network = open_onnx(written(tmp_path, model()))
    assert np.allclose(network.run(ROWS), ROWS @ WEIGHT, atol=1e-6)
    assert network.run(ROWS.astype(np.float16)).dtype == np.float32
    assert network.run(ROWS[:0]).shape == (0, 2)
    signature = network.signature
    assert (signature.stored_shape, signature.outputs, signature.class_names) == ((4,), 2, ())
    assert signature.transform == Transform()
    assert network.reference is None
    assert network.provider == "CPUExecutionProvider"


def test_one_that_takes_whole_batches_gets_them(tmp_path):
    network = open_onnx(written(tmp_path, model(batch=3)))
    for samples in (0, 1, 3, 5):
        assert np.allclose(network.run(ROWS[:samples]), ROWS[:samples] @ WEIGHT, atol=1e-6)


def test_whole_numbers_are_tokens(tmp_path):
    network = open_onnx(written(tmp_path, model(dtype=onnx.TensorProto.INT64)))
    assert network.signature.transform.tokens
    assert np.array_equal(network.run(np.ones((2, 4), np.uint8)), np.ones((2, 4), np.float32) @ WEIGHT)


def test_openvino_gives_the_same(tmp_path):
    if "OpenVINOExecutionProvider" not in providers():
        pytest.skip("this onnxruntime was built without OpenVINO")
    path = written(tmp_path, model())
    network = open_onnx(path, "OpenVINOExecutionProvider", 1)
    assert network.provider == "OpenVINOExecutionProvider"
    assert np.allclose(network.run(ROWS), open_onnx(path).run(ROWS), atol=1e-6)


def test_an_unknown_provider_is_told_with_the_known_ones(tmp_path):
    refused(written(tmp_path, model()), "CPUExecutionProvider", error=InputError, provider="TensorrtExecutionProvider")


def test_what_a_network_carries_comes_back(tmp_path):
    statistics = Statistics(np.ones(4, np.float32), np.full(4, 2, np.float32), 10)
    signature = Signature("events", (4,), Transform(statistics=statistics), 2, ("gamma", "hadron"))
    metadata = {"phalanx": signature.to_json(), "name": "deployed"}
    network = open_onnx(written(tmp_path, model(metadata=metadata)))
    assert network.signature.to_json() == signature.to_json()
    assert network.metadata == metadata


def test_another_sample_shape_than_it_says_is_refused(tmp_path):
    other = Signature("events", (5,), Transform(), 2).to_json()
    refused(written(tmp_path, model(metadata={"phalanx": other})), "(5,)", "(4,)", "changed")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "nonsense", '{"statistics": 5}', "[" * 100_000, "null"])
@pytest.mark.parametrize("place", ["phalanx", "phalanx.reference"])
def test_metadata_of_others_are_refused(tmp_path, text, place):
    refused(written(tmp_path, model(metadata={place: text})), "metadata", place)


def test_statistics_of_nonsense_are_refused(tmp_path):
    tree = json.loads(Signature("x", (4,), Transform(), 2).to_json())
    tree["statistics"] = {"mean": {"dtype": "O", "values": [{}]}}
    refused(written(tmp_path, model(metadata={"phalanx": json.dumps(tree)})), "metadata")


def test_weights_in_other_files_are_not_read(tmp_path):
    made = model()
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], "../../etc/passwd")
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    made.graph.initializer[0].ClearField("raw_data")
    refused(written(tmp_path, made), "another file", "etc/passwd", "not read")


def test_nor_those_hidden_in_an_inner_graph(tmp_path):
    made = model()
    inner = onnx.helper.make_graph([], "inner", [], [], [made.graph.initializer[0]])
    onnx.external_data_helper.set_external_data(inner.initializer[0], "secret")
    made.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", inner))
    refused(written(tmp_path, made), "another file", "secret")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"operator": "Evil", "domain": "my.ops"}, ("'Evil'", "'my.ops'", "not loaded")),
        ({"operator": "EPContext", "domain": "com.microsoft"}, ("EPContext", "other files")),
        ({"operator": "NoSuchOperator"}, ("NoSuchOperator",)),
        ({"shape": ("height",)}, ("shape of a sample", "?")),
        ({"dtype": onnx.TensorProto.STRING}, ("expected numbers",)),
    ],
)
def test_graphs_that_cannot_run_are_refused(tmp_path, keys, words):
    refused(written(tmp_path, model(**keys)), *words)


def test_two_inputs_are_refused(tmp_path):
    made = model()
    made.graph.input.append(onnx.helper.make_tensor_value_info("mask\x1b[2J", onnx.TensorProto.FLOAT, ["n"]))
    refused(written(tmp_path, made), "2 inputs", "samples, mask\\x1b[2J", "expected one")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(600), b"not a network", os.urandom(64)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    refused(path, "ONNX file")


def test_places_that_are_no_files_are_refused(tmp_path):
    refused(tmp_path / "none.onnx", "No such file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")
    large = tmp_path / "large.onnx"
    large.touch()
    os.truncate(large, 1 << 31)
    refused(large, "at most 2,147,483,647")


def test_a_cut_file_is_refused(tmp_path):
    path = written(tmp_path, model())
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "ONNX")


def test_wrong_samples_are_told(tmp_path):
    network = open_onnx(written(tmp_path, model()))
    with pytest.raises(ArtifactError, match=r"inputs of shape \(5, 3\)"):
        network.run(ROWS[:, :3])


def test_without_onnx_runtime_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path, model())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(path, "onnxruntime", "phalanx-hpc[onnx]", error=MachineError)
