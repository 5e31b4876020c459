"""Which device a rank gets, and what is said of it; drivers and plug-ins are put in place by the tests."""

import importlib.util
import os
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from app import doctor
from app.errors import MachineError
from app.learning.devices import choose, examine, kernels, kinds, precision
from app.learning.devices.choose import Seat, Wanted, choose_device
from app.learning.devices.steps import step_end

CPU = torch.device("cpu")
ALONE = Seat(0, 1)
TORCH_XLA = """
import os
import torch
from torch_xla import runtime
chips = os.environ.get("TPU_VISIBLE_CHIPS")
synced = []
def device(index):
    return torch.device("cpu")
def sync():
    synced.append(1)
"""
RUNTIME = """
import os
def device_type():
    return os.environ["FAKE_XLA"]
def addressable_device_count():
    return 1
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A machine without accelerators and plug-ins, whatever this one has; what a test sets is undone."""
    for name in [*kinds.ONE_CHIP, "TPU_VISIBLE_CHIPS", "HLS_MODULE_ID", "HABANA_VISIBLE_MODULES", "SLURM_LOCALID"]:
        monkeypatch.setenv(name, "")  # so that whatever is set is taken away afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for kind in kinds.KINDS.values():
        if package := kind.plugin.partition(".")[0]:
            monkeypatch.setitem(sys.modules, package, None)
            monkeypatch.delitem(sys.modules, package)
    parts = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    before = [part.fp32_precision for part in parts]
    yield
    for part, value in zip(parts, before, strict=True):
        part.fp32_precision = value
    while kernels._lent:
        kernels._lent.popitem()[1]._destroy()


def accelerator(monkeypatch, kind, count):
    """Torch says that it has so many devices of a kind; the indices that are made current."""
    taken = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
    module = SimpleNamespace(get_device_name=lambda device: "Test Chip", is_bf16_supported=lambda: True)
    monkeypatch.setattr(torch, "get_device_module", lambda name: module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return taken


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Puts a package in place that can be imported."""

    def put(name, **files):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / f"{file}.py").write_text(text)
        importlib.invalidate_caches()

    before = set(sys.modules)
    yield put
    for name in set(sys.modules) - before:
        if name.startswith(("torch_xla", "torch_npu", "habana_frameworks")):
            del sys.modules[name]


def test_without_an_accelerator_auto_is_the_cpu_and_says_why():
    found = choose_device(Wanted(), ALONE)
    assert found.device == CPU
    assert found.line == "cpu (auto: torch sees no accelerator), float32"
    assert choose_device(Wanted("cpu", "bf16"), ALONE).line == "cpu (asked for), bf16"


@pytest.mark.parametrize(
    ("kind", "what", "install"),
    [
        ("cuda", "sees no NVIDIA or AMD GPU", "torch built for CUDA or ROCm"),
        ("xpu", "sees no Intel GPU", "torch built for XPU"),
        ("mps", "sees no Apple GPU", "macOS 14"),
        ("hpu", "needs the package habana_frameworks", "habana-torch-plugin"),
        ("npu", "needs the package torch_npu", "CANN"),
        ("xla", "needs the package torch_xla", "torch_xla[tpu]"),
    ],
)
def test_a_named_device_that_is_missing(monkeypatch, kind, what, install):
    monkeypatch.setattr(kinds, "installed", lambda name: False)
    with pytest.raises(MachineError) as told:
        choose_device(Wanted(kind), ALONE)
    (text,) = told.value.problems
    assert text.startswith(f'[run] device = "{kind}": ')
    assert what in text
    assert install in text
    assert text.endswith('Or say "auto" or "cpu".')


def test_ranks_take_the_devices_of_their_host_in_turn(monkeypatch):
    taken = accelerator(monkeypatch, "cuda", 2)
    found = [choose_device(Wanted(), Seat(rank, 5)) for rank in range(5)]
    assert [one.device.index for one in found] == [0, 1, 0, 1, 0] == taken
    assert found[1].line == "cuda:1, Test Chip (auto; 2 cuda devices here), float32"
    assert choose_device(Wanted("cuda"), ALONE).reason.startswith("asked for")


def test_ranks_that_share_a_device_are_told(monkeypatch):
    accelerator(monkeypatch, "cuda", 2)
    found = [choose_device(Wanted(), Seat(rank, 3)) for rank in range(3)]
    places = [one.where("here") for one in found] + [one.where("there") for one in found]
    first, second = (one.among(places[rank], places) for rank, one in enumerate(found[:2]))
    assert "2 ranks share it" in first.line
    assert "2 ranks on here share a device" in first.notes[0]
    assert second == found[1]


def test_each_rank_may_see_a_device_of_its_own_under_the_same_number(monkeypatch):
    accelerator(monkeypatch, "cuda", 1)
    found = choose_device(Wanted(), ALONE)
    places = []
    for visible in "01":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        places.append(found.where("here"))
    assert found.among(places[0], places) == found


def test_devices_with_a_number_of_their_own_are_told_apart_by_it(monkeypatch):
    accelerator(monkeypatch, "cuda", 1)
    torch.get_device_module("cuda").get_device_properties = lambda device: SimpleNamespace(uuid="ab-12")
    assert kinds.identity(torch.device("cuda:0")) == "cuda ab-12"


def test_ranks_of_one_kind_or_none(monkeypatch):
    cpu = choose_device(Wanted(precision="tf32"), ALONE)
    accelerator(monkeypatch, "cuda", 1)
    gpu = choose_device(Wanted(precision="tf32"), ALONE)
    places = [gpu.where("a"), cpu.where("b")]
    found = gpu.among(places[0], places)
    assert (found.device, found.computes) == (CPU, "float32")
    assert "not all ranks have the same kind" in found.reason
    assert "all compute on the CPU" in found.notes[-1]


@pytest.mark.parametrize(
    ("local", "environ", "seat"),
    [
        ((1, 4), {"SLURM_LOCALID": "3"}, Seat(1, 4)),
        ((0, 1), {"SLURM_LOCALID": "3", "SLURM_NTASKS_PER_NODE": "4"}, Seat(3, 4)),
        ((0, 1), {"SLURM_LOCALID": "x"}, Seat(0, 1)),
        ((0, 1), {}, Seat(0, 1)),
    ],
)
def test_who_is_alone_in_its_container_goes_by_slurm(local, environ, seat):
    assert Seat.of(*local, environ) == seat


def test_a_tpu_is_found_by_its_plug_in(monkeypatch, plug_in):
    plug_in("torch_xla", __init__=TORCH_XLA, runtime=RUNTIME)
    monkeypatch.setenv("FAKE_XLA", "TPU")
    found = choose_device(Wanted(), Seat(2, 4))
    assert found.reason == "auto"
    assert os.environ["TPU_PROCESS_BOUNDS"] == "1,1,1"
    import torch_xla

    assert torch_xla.chips == "2"  # known before the plug-in starts
    step_end(torch.device("xla"))
    step_end(CPU)
    assert torch_xla.synced == [1]


def test_chips_that_the_user_has_chosen_stay(monkeypatch):
    environ = {"TPU_VISIBLE_CHIPS": "3"}
    kinds._take_one("xla", 0, environ)
    assert environ == {"TPU_VISIBLE_CHIPS": "3"}
    environ = {"HABANA_VISIBLE_MODULES": "4, 5"}
    kinds._take_one("hpu", 1, environ)
    assert environ["HLS_MODULE_ID"] == "5"
    environ = {"HLS_MODULE_ID": "7"}
    kinds._take_one("hpu", 1, environ)
    assert environ == {"HLS_MODULE_ID": "7"}


def test_xla_on_the_cpu_is_nothing_that_auto_takes(monkeypatch, plug_in):
    plug_in("torch_xla", __init__=TORCH_XLA, runtime=RUNTIME)
    monkeypatch.setenv("FAKE_XLA", "CPU")
    assert "sees no TPU" in choose_device(Wanted(), ALONE).reason
    assert choose_device(Wanted("xla"), ALONE).reason == "asked for"


def test_a_plug_in_that_does_not_load(plug_in):
    plug_in("torch_npu", __init__="raise RuntimeError('undefined symbol: _ZN3c104impl')")
    found = choose_device(Wanted(), ALONE)
    assert found.device == CPU
    assert "undefined symbol: _ZN3c104impl" in found.reason
    with pytest.raises(MachineError, match=r"torch_npu cannot be loaded beside torch .*undefined symbol"):
        choose_device(Wanted("npu"), ALONE)


def test_ranks_cannot_share_a_gaudi(monkeypatch, plug_in):
    plug_in("habana_frameworks", __init__="")
    (place,) = sys.path[:1]
    os.makedirs(os.path.join(place, "habana_frameworks", "torch"))
    for name in ("__init__", "core"):
        with open(os.path.join(place, "habana_frameworks", "torch", f"{name}.py"), "w") as file:
            file.write("marked = []\ndef mark_step():\n    marked.append(1)\n")
    module = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, is_bf16_supported=lambda: True)
    monkeypatch.setattr(torch, "get_device_module", lambda name: module)
    assert choose_device(Wanted("hpu"), Seat(1, 2)).device == torch.device("hpu")
    with pytest.raises(MachineError, match="3 ranks on this host, but it has 2 of Intel Gaudi"):
        choose_device(Wanted("hpu"), Seat(2, 3))
    step_end(torch.device("hpu"))
    from habana_frameworks.torch import core

    assert core.marked == [1]


def test_a_driver_that_fails_is_named(monkeypatch):
    accelerator(monkeypatch, "cuda", 1)

    def fails(index):
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch.accelerator, "set_device_index", fails)
    with pytest.raises(MachineError, match="cannot be used: RuntimeError: CUDA driver version is insufficient"):
        choose_device(Wanted("cuda"), ALONE)
    assert "driver version" in choose_device(Wanted(), ALONE).reason


def test_tf32_where_there_is_none_is_float32_and_told():
    found = choose_device(Wanted("cpu", "tf32"), ALONE)
    assert found.computes == "float32"
    assert 'precision = "tf32", but cpu has none' in found.notes[0]


@pytest.mark.parametrize(("wanted", "is_"), [("tf32", "tf32"), ("float32", "ieee"), ("bf16", "ieee")])
def test_float32_is_float32_on_gpus_unless_tf32_is_asked_for(monkeypatch, wanted, is_):
    accelerator(monkeypatch, "cuda", 1)
    found = choose_device(Wanted("cuda", wanted), ALONE)
    assert found.computes == wanted
    assert found.notes == ()
    assert torch.backends.cuda.matmul.fp32_precision == is_
    assert torch.backends.cudnn.conv.fp32_precision == is_


def test_tf32_on_a_gpu_before_ampere(monkeypatch):
    accelerator(monkeypatch, "cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choose_device(Wanted("cuda", "tf32"), ALONE).computes == "float32"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_bf16_on_a_device_without_it(monkeypatch):
    accelerator(monkeypatch, "cuda", 1)
    torch.get_device_module("cuda").is_bf16_supported = lambda: False
    with pytest.raises(MachineError, match=r'precision = "bf16", but cuda:0 does not compute in it'):
        choose_device(Wanted("cuda", "bf16"), ALONE)


def test_what_cannot_be_compiled_is_told(monkeypatch):
    monkeypatch.setattr(choose.compiling, "trouble", lambda device: "InvalidCxxCompiler: no g++")
    found = choose_device(Wanted("cpu", compile=True, cuda_graphs=True), ALONE)
    assert found.computes == "float32"
    assert "cannot compile for cpu here: InvalidCxxCompiler: no g++" in found.notes[0]
    assert "cuda_graphs = true, but cpu has none" in found.notes[1]


def test_doctor_lists_every_kind_that_is_there(monkeypatch, plug_in):
    plug_in("torch_npu", __init__="raise ImportError('libascendcl.so: cannot open shared object file')")
    accelerator(monkeypatch, "cuda", 4)
    monkeypatch.setattr(precision, "supports_bf16", lambda device: True)
    lines = [one for one in examine.examine() if one.subject == "accelerators"]
    assert lines[0].text == '4 x cuda: Test Chip, bf16, tf32; [run] device = "cuda"'
    assert not lines[0].advice
    assert "libascendcl.so" in lines[1].text
    assert "CANN" in lines[1].advice


def test_doctor_of_a_host_whose_gpu_torch_does_not_see(monkeypatch):
    monkeypatch.setattr(kinds, "seems_there", lambda: True)
    (line,) = [one for one in examine.examine() if one.subject == "accelerators"]
    assert "install the torch built for it" in line.advice


def test_doctor_lists_where_exported_networks_can_run(monkeypatch):
    runtime = SimpleNamespace(__version__="1.24", get_available_providers=lambda: ["AProvider", "CPUProvider"])
    monkeypatch.setattr(doctor, "import_module", lambda name: runtime)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert doctor._runtime().text == "1.24: AProvider, CPUProvider"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = doctor._runtime()
    assert "not installed" in found.text
    assert "pip install onnxruntime" in found.advice
    assert not found.serious


def steps_of(kernel, parameters, count, **options):
    """Parameters after some steps of a kernel."""
    parameters = [one.clone() for one in parameters]
    moments = [[torch.zeros_like(one) for one in parameters] for _ in range(3)]
    generator = torch.Generator().manual_seed(1)
    for step in range(count):
        gradients = [torch.randn(one.shape, generator=generator) for one in parameters]
        largest = moments[2] if options.get("amsgrad") else []
        if "momentum" in options:
            kernel(parameters, gradients, moments[0], lr=0.1 / (step + 1), is_first_step=step == 0, **options)
        else:
            steps = [torch.full((), step + 1.0)] * len(parameters)
            kernel(parameters, gradients, *moments[:2], largest, steps, lr=0.1 / (step + 1), **options)
    return parameters


SGD = {"weight_decay": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "maximize": False}
ADAM = {"beta1": 0.8, "beta2": 0.99, "weight_decay": 0.1, "eps": 1e-6, "amsgrad": False, "maximize": False}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("_fused_sgd_", SGD),
        ("_fused_sgd_", SGD | {"nesterov": True, "maximize": True}),
        ("_fused_sgd_", SGD | {"dampening": 0.3, "weight_decay": 0.0}),
        ("_fused_adam_", ADAM),
        ("_fused_adam_", ADAM | {"amsgrad": True}),
        ("_fused_adamw_", ADAM),
        ("_fused_adamw_", ADAM | {"maximize": True}),
    ],
)
def test_steps_in_plain_operations_are_those_of_the_fused_kernels(name, options):
    parameters = [torch.randn(3, 4), torch.randn(5)]
    ours = steps_of(kernels.KERNELS[name], parameters, 4, **options)
    theirs = steps_of(getattr(torch, name), parameters, 4, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_device_without_fused_kernels_is_given_them():
    names = [f"aten::{name}" for name in kernels.KERNELS]

    def there():
        return Counter(torch._C._dispatch_has_kernel_for_dispatch_key(name, "HPU") for name in names)

    assert there() == {False: 3}
    kernels.lend("cpu")
    assert there() == {False: 3}
    kernels.lend("hpu")
    kernels.lend("hpu")
    assert there() == {True: 3}
