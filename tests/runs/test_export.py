"""A network with a quantum layer, exported in every format; other programs read the files, alone and on two stages."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from app.plan.circuits.qasm.reader import read_qasm
from app.storage.describe import describe
from tests.launch import ALONE, completed
from tests.runs import made, outcome

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
NAMES = ["night", "dusk", "day"]
SUFFIXES = (".onnx", ".int8.onnx", ".pt2", ".h5", ".quantum4.qasm")
LAYERS = [
    {"kind": "convolution", "channels": 8, "activation": "gelu"},
    {"kind": "pooling"},
    {"kind": "dense", "width": 4, "activation": "tanh"},
    {"kind": "quantum", "qubits": 4, "layers": 2, "rotation": "y", "reupload": True, "measure": ["Z0", "X1", "Y2 Z3"]},
]
EXPORT = {
    "kind": "export",
    "name": "out",
    "formats": ["onnx", "program", "weights", "qasm"],
    "int8": True,
    "batch_size": 10,
}
GRIDS = {"1x1": (ALONE, 1), "1x2": (2, 2)}


@pytest.fixture(scope="module")
def inputs():
    """Images with the channel last, of brightness around 100."""
    return 100 + made.features(8, 8, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, inputs):
    """The run folders by grid, and what the runs printed."""
    found = {}
    for grid, (ranks, stages) in GRIDS.items():
        folder = tmp_path_factory.mktemp(grid)
        made.write_data(folder / "data.h5", inputs, made.labels(inputs))
        data = {"file": "data.h5", "layout": "channels_last", "class_names": NAMES}
        network = {"kind": "layers", "layers": LAYERS}
        train = {"optimizer": "adam", "epsilon": 1e-3}  # rounding stays small
        file = made.write_input(folder / "input.toml", network, train, data, after=[EXPORT])
        found[grid] = (file.with_suffix(""), completed(file, ranks, f"grid.stages={stages}", "run.measure=0"), file)
    return found


@pytest.fixture(scope="module")
def folder(folders):
    return folders["1x1"][0]


def answers(folder: Path, suffix: str, rows: np.ndarray, provider: str = "CPUExecutionProvider") -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / f"exports/out{suffix}", providers=[provider])
    return session.run(["outputs"], {"inputs": rows})[0]


def ports(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    """What enters and leaves a graph: names and shapes."""
    found = (*model.graph.input, *model.graph.output)
    return {one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in found}


def table(folder: Path) -> h5py.Group:
    return h5py.File(folder / "run.h5")["phases/out"]


@pytest.mark.parametrize("samples", [1, 7, 120])
def test_all_forms_give_the_same(folder, inputs, samples):
    rows = inputs[-samples:]
    found = answers(folder, ".onnx", rows)
    program = torch.export.load(folder / "exports/out.pt2").module()
    assert found.shape == (samples, 3)
    assert np.allclose(program(torch.from_numpy(rows)).detach().numpy(), found, atol=1e-5)
    # the last linear layer alone hides nothing
    assert np.ptp(answers(folder, ".onnx", inputs), axis=0).min() > 1e-2


def test_openvino_gives_the_same(folder, inputs):
    if "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without OpenVINO")
    found = answers(folder, ".onnx", inputs, "OpenVINOExecutionProvider")
    assert np.allclose(found, answers(folder, ".onnx", inputs), atol=1e-3)  # it may compute in bf16


@pytest.mark.parametrize("grid", GRIDS)
def test_the_files_are_as_good_as_the_network(folders, grid):
    folder = folders[grid][0]
    wanted = outcome.metrics(folder)  # of an evaluate phase
    found = table(folder)
    for form in ("network", "onnx"):
        assert found[f"metrics/{form}/accuracy"][()] == wanted["accuracy"]
        assert found[f"metrics/{form}/loss"][()] == pytest.approx(wanted["loss"], rel=1e-5)
    assert found["metrics/int8/loss"][()] == pytest.approx(wanted["loss"], rel=0.1)
    assert found["metrics/int8/loss"][()] != found["metrics/onnx/loss"][()]
    assert found["difference"][()] < 1e-4
    assert found["network"][()] == b"net"


def test_files_are_listed_with_their_sizes(folder):
    found = table(folder)
    sizes = dict(zip(found["files/names"].asstr()[:], found["files/bytes"][:], strict=True))
    assert sizes == {f"out{suffix}": (folder / f"exports/out{suffix}").stat().st_size for suffix in SUFFIXES}
    assert sorted(path.name for path in (folder / "exports").iterdir()) == sorted(sizes)
    assert not (folder / "work").exists()


def test_files_carry_what_they_need(folder, inputs):
    for suffix in (".onnx", ".int8.onnx"):
        model = onnx.load(folder / f"exports/out{suffix}")
        texts = {one.key: one.value for one in model.metadata_props}
        signature = json.loads(texts["phalanx"])
        assert (texts["name"], json.loads(texts["class_names"])) == ("out", NAMES)
        assert signature["stored_shape"] == [8, 8, 2]
        assert np.ravel(signature["statistics"]["mean"]["values"]) == pytest.approx([100.5, 100.5], abs=0.5)
        assert json.loads(texts["phalanx.reference"])
        assert texts["run_id"] == h5py.File(folder / "run.h5").attrs["run_id"]
        assert ports(model) == {"inputs": ["batch", 8, 8, 2], "outputs": ["batch", 3]}
        assert b"site-packages" not in model.SerializeToString()
        assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()


def test_circuits_stay_floating_point(folder, inputs):
    model = onnx.load(folder / "exports/out.int8.onnx")
    made_by = {output: node for node in model.graph.node for output in node.output}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    whole = [node for node in products if made_by.get(node.input[0], node).op_type == "DequantizeLinear"]
    assert [node.op_type for node in whole].count("Conv") == 1
    assert len(whole) == 3  # the dense layers beside it
    assert len(products) > 6
    spread = np.abs(answers(folder, ".int8.onnx", inputs) - answers(folder, ".onnx", inputs)).max()
    assert 0 < spread < 0.1


def test_weights_are_those_of_the_network(folder):
    with h5py.File(folder / "exports/out.h5") as file:
        outcome.assert_same_bits(outcome.numbers(file["weights"]), outcome.weights(folder))
        assert file.attrs["kind"] == "export"
        assert file["signature/class_names"].asstr()[:].tolist() == NAMES
        assert file["metrics/network/accuracy"][()] == outcome.metrics(folder)["accuracy"]
    count = sum(array.size for array in outcome.weights(folder).values())
    assert any(f" {count:,} numbers in " in line for line in describe(folder / "exports/out.h5"))


def test_the_circuit_is_written(folder):
    circuit = read_qasm((folder / "exports/out.quantum4.qasm").read_text())
    assert (circuit.qubits, circuit.parameters) == (4, 4)
    assert sum(gate.controls != () for gate in circuit.gates) == 8


def test_two_stages_export_the_same(folders, inputs):
    one, two = (answers(folders[grid][0], ".onnx", inputs) for grid in GRIDS)
    assert np.abs(one - two).max() < 1e-3 * np.abs(one).max()


def test_it_is_done_once(folders):
    folder, _, file = folders["1x1"]
    before = {path: path.stat().st_mtime_ns for path in (folder / "exports").iterdir()}
    assert "out: done on an earlier start, skipped" in completed(file, ALONE)
    assert {path: path.stat().st_mtime_ns for path in (folder / "exports").iterdir()} == before
