"""inputs/ground_state.toml and circuits on 1 to 4 ranks: the same numbers, exact energies, restarts, Qiskit beside."""

import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from app.storage.quantum_states import read_state
from tests.launch import ALONE, TREE, Job, completed

FILE = TREE / "inputs" / "ground_state.toml"
SIMULATE = """\
[run]
name = "simulate"
seed = 3
folder = "{folder}"
threads = 1

[[phase]]
kind = "quantum"
name = "ours"
circuit = {{ template = "random", qubits = 7, depth = 5, seed = 2 }}
observable = {{ "Z0 Z6" = 1.0, "X0 Y5" = 0.5, "Y6" = 0.25 }}
probabilities = [6, 0]
shots = 400
save_state = true
"""
QISKIT = """
[[phase]]
kind = "quantum"
name = "qiskit"
backend = "qiskit"
circuit = {{ template = "random", qubits = 7, depth = 5, seed = 2 }}
observable = {{ "Z0 Z6" = 1.0, "X0 Y5" = 0.5, "Y6" = 0.25 }}
probabilities = [6, 0]
shots = 20000
"""
SHIFT = """
[[phase]]
kind = "quantum"
name = "{name}"
task = "minimise"
gradient = "{gradient}"
circuit = {{ template = "hardware_efficient", qubits = 2, layers = 1, rotations = "ry" }}
observable = {{ model = "ising", qubits = 2 }}
values = [0.3, 0.2, 0.1, 0.4]
steps = 3
"""


def of_phase(folder, phase):
    """The group of a phase: numbers and arrays by path."""
    found = {}
    with h5py.File(folder / "run.h5") as file:
        file[f"phases/{phase}"].visititems(
            lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None
        )
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run folders by number of ranks."""
    folders = {}
    for ranks in (ALONE, 2, 3, 4):
        folders[ranks] = tmp_path_factory.mktemp("ground") / "run"
        # where ranks are many for the cores a few steps say as much as all
        short = [] if ranks in (ALONE, 2) else ["phase.hydrogen.steps=12", "phase.ising.steps=12"]
        completed(FILE, ranks, f"run.folder={folders[ranks]}", "run.threads=1", *short)
    return folders


@pytest.mark.slow
def test_the_energies_are_exact(ran):
    for ranks in (ALONE, 2):
        for phase in ("hydrogen", "ising"):
            found = of_phase(ran[ranks], phase)
            assert abs(found["energy"] - found["exact"]) < 1e-6, (ranks, phase)
    assert of_phase(ran[2], "hydrogen")["exact"] == pytest.approx(-1.13727, abs=5e-6)


@pytest.mark.slow
def test_hydrogen_does_not_depend_on_where_it_starts(tmp_path):
    ways = set()
    for seed in range(4):
        folder = tmp_path / str(seed)
        completed(FILE, ALONE, f"run.folder={folder}", "run.threads=1", f"run.seed={seed}", "phase.ising.steps=1")
        found = of_phase(folder, "hydrogen")
        assert abs(found["energy"] - found["exact"]) < 1e-6, seed
        ways.add(float(found["steps/energy"][0]))
    assert len(ways) == 4


@pytest.mark.slow
def test_every_number_of_ranks_takes_the_same_way(ran):
    for ranks in (2, 3, 4):
        for phase in ("hydrogen", "ising"):
            curve = of_phase(ran[ranks], phase)["steps/energy"][:13]
            assert curve == pytest.approx(of_phase(ran[ALONE], phase)["steps/energy"][:13], abs=1e-9)


@pytest.mark.slow
def test_a_later_phase_takes_the_parameters_found(ran):
    for ranks in ran:
        found = of_phase(ran[ranks], "measured")
        assert found["expectation"] == pytest.approx(of_phase(ran[ranks], "ising")["energy"], abs=1e-10)
        assert found["samples/counts"].sum() == 1000
        assert found["exchanges/done"] == found["exchanges/expected"]
        assert found["exchanges/bytes"] == found["exchanges/expected_bytes"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Run folders of one circuit by number of ranks."""
    folders = {}
    for ranks in (ALONE, 2, 4):
        place = tmp_path_factory.mktemp("simulate")
        folders[ranks] = place / "run"
        text = SIMULATE + (QISKIT if ranks == ALONE else "")
        (place / "input.toml").write_text(text.format(folder=folders[ranks]))
        completed(place / "input.toml", ranks)
    return folders


def test_expectation_samples_and_probabilities_do_not_depend_on_the_ranks(simulated):
    alone = of_phase(simulated[ALONE], "ours")
    for ranks in (2, 4):
        found = of_phase(simulated[ranks], "ours")
        assert found["expectation"] == pytest.approx(alone["expectation"], abs=1e-12)
        assert found["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-12)
        assert list(found["samples/bits"]) == list(alone["samples/bits"])
        assert list(found["samples/counts"]) == list(alone["samples/counts"])
        assert found["exchanges/done"] == found["exchanges/expected"] > 0


def test_a_state_is_read_by_another_number_of_ranks(simulated):
    states = []
    for ranks in simulated:
        found = read_state(simulated[ranks] / "states" / "ours", None)
        axes = [6 - found.positions[6 - axis] for axis in range(7)]
        states.append((found.re + 1j * found.im).reshape((2,) * 7).transpose(axes).reshape(-1))
    assert np.vdot(states[0], states[0]) == pytest.approx(1)
    for other in states[1:]:
        assert np.abs(other - states[0]).max() < 1e-12


def test_qiskit_finds_the_same(simulated):
    pytest.importorskip("qiskit_aer", reason="Qiskit is an optional package")
    ours, theirs = (of_phase(simulated[ALONE], phase) for phase in ("ours", "qiskit"))
    assert theirs["expectation"] == pytest.approx(ours["expectation"], abs=1e-10)
    assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=0.02)
    assert theirs["samples/counts"].sum() == 20000


def test_shifted_angles_give_the_adjoint_gradient(tmp_path):
    head = SIMULATE.format(folder=tmp_path / "run").partition("[[phase]]")[0]
    phases = [SHIFT.format(name=gradient, gradient=gradient) for gradient in ("adjoint", "shift")]
    (tmp_path / "input.toml").write_text(head + "".join(phases))
    completed(tmp_path / "input.toml", 2)
    adjoint, shift = (of_phase(tmp_path / "run", gradient) for gradient in ("adjoint", "shift"))
    assert shift["steps/energy"] == pytest.approx(adjoint["steps/energy"], abs=1e-10)
    assert shift["values"] == pytest.approx(adjoint["values"], abs=1e-8)


@pytest.mark.slow
def test_a_killed_minimisation_goes_on(ran, tmp_path):
    settings = (f"run.folder={tmp_path / 'run'}", "run.threads=1", "phase.hydrogen.checkpoint_steps=1")
    with Job(FILE, ALONE, *settings) as job:
        checkpoints = tmp_path / "run" / "checkpoints" / "hydrogen"
        while len(list(checkpoints.glob("*.h5"))) < 2:
            assert job.process.poll() is None, job.text()
        assert job.kill(0)
    text = completed(FILE, ALONE, *settings)
    assert "goes on from its checkpoint at step" in text
    assert of_phase(tmp_path / "run", "hydrogen")["steps/energy"].tobytes() == (
        of_phase(ran[ALONE], "hydrogen")["steps/energy"].tobytes()
    )
    shutil.rmtree(tmp_path / "run")


ON_DEVICE = """
import app.circuits.on_device as on_device
on_device.KINDS, on_device.SMALLEST = ("cpu",), 2
import sys
sys.argv = ["phalanx", *sys.argv[1:]]
from app.cli import main
sys.exit(main())
"""


def test_the_path_of_accelerators_gives_the_same_numbers(tmp_path):
    """The CPU stands for the accelerator: circuits, samples, the stored state, and an energy's curve."""
    found = {}
    for name, how in (("loops", ["-m", "app"]), ("device", ["-c", ON_DEVICE])):
        folder, file = tmp_path / name, tmp_path / f"{name}.toml"
        minimise = SHIFT.format(name="curve", gradient="adjoint").replace("steps = 3", "steps = 3\nsave_state = true")
        file.write_text(SIMULATE.format(folder=folder) + minimise)
        ended = subprocess.run([sys.executable, *how, "run", str(file)], cwd=TREE, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        found[name] = of_phase(folder, "ours") | {f"curve/{k}": v for k, v in of_phase(folder, "curve").items()}
        assert (folder / "states" / "curve").exists()
    assert "passes" in found["loops"]
    assert "passes" not in found["device"]  # it went the other way
    for key in ("expectation", "probabilities", "curve/energy", "curve/values", "curve/steps/energy"):
        np.testing.assert_allclose(found["device"][key], found["loops"][key], rtol=0, atol=1e-12, err_msg=key)
    for key in found["loops"]:
        if key.startswith("samples"):
            np.testing.assert_array_equal(found["device"][key], found["loops"][key])
