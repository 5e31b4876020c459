"""On a login node: `check` and `template` load nothing heavy, and the template is an input file."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.inputfile import read_input
from app.inputfile.layers import LAYERS
from app.inputfile.networks import NETWORKS
from app.inputfile.phases import PHASES
from app.inputfile.template import template

TREE = Path(__file__).parents[2]
HEAVY = {"torch", "mpi4py", "h5py", "hdf5plugin", "horovod", "numpy", "matplotlib"}
SHOW_LOADED = """
import sys
from app.cli import main
code = main(sys.argv[1:])
print("loaded:", *(name for name in sys.modules if "." not in name))
sys.exit(code)
"""


def loaded(*arguments: str) -> set[str]:
    """The packages that a command has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW_LOADED, *arguments], cwd=TREE, capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "inputs/digits.toml", "--ranks", "4"),
        ("template",),
        ("template", "transformer"),
    ],
)
def test_nothing_heavy_is_imported(arguments):
    found = loaded(*arguments)
    assert "app" in found
    assert not found & HEAVY


def test_a_refusal_imports_nothing_heavy(tmp_path):
    (tmp_path / "job.toml").write_text("[run]\nnam = 1\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        loaded("check", str(tmp_path / "job.toml"))
    assert caught.value.returncode == 2
    assert not set(caught.value.stdout.rpartition("loaded:")[2].split()) & HEAVY


def test_the_template_is_an_input_file():
    given = read_input(template(), "template.toml")
    assert [phase.kind for phase in given.phase] == list(PHASES)


def uncommented(text: str) -> str:
    """A table with its defaults written out; keys without a default stay comments."""
    lines = []
    for line in text.splitlines():
        key, equals, value = line.removeprefix("# ").partition(" =")
        is_key = line.startswith("# ") and equals and " " not in key
        lines.append(line.removeprefix("# ") if is_key and value.split("#")[0].strip() else line)
    return "\n".join(lines)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_template_of_layers_shows_every_key_of_a_layer(kind):
    shown = template("layers").partition(f'kind = "{kind}", ...')[2].partition("\n\n")[0]
    keys = set(LAYERS[kind].model_fields) - {"kind"}
    assert {line.split()[1] for line in shown.splitlines()[1:]} == keys


@pytest.mark.parametrize("network", NETWORKS)
def test_the_defaults_that_the_template_shows_are_accepted(network):
    """Every table with its defaults uncommented means the same as without them."""
    tables = ("run", "grid", "data", network, *PHASES)
    shown = read_input("\n".join(uncommented(template(name)) for name in tables), "template.toml")
    assert shown == read_input("\n".join(template(name) for name in tables), "template.toml")
