"""Torch, its accelerators and what they compute in, for `phalanx doctor`."""

import importlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from app.errors import MachineError
from app.learning.devices import kinds
from app.learning.devices.precision import has_tf32, supports_bf16
from app.report.finding import Finding
from app.report.log import escaped


def examine() -> list[Finding]:
    """What `[run] device` can be here. Collective over: none."""
    found = [Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads in this process")]
    own = kinds.torchs_own()
    there = list(_accelerators(own))
    if not any(not one.advice for one in there):
        there.append(_none())
    return [*found, *there, *([] if own else [_cpu_bf16()]), _compiler()]


def _accelerators(own: str) -> Iterator[Finding]:
    """Of torch itself and of the plug-ins that are installed: one line a kind."""
    for kind in dict.fromkeys([own, *filter(kinds.installed, kinds.KINDS)]):
        if not kind:
            continue
        try:
            kinds.load(kind, 0)
            yield _described(kind)
        except MachineError as error:
            yield Finding("accelerators", error.problems[0], f"install {kinds.kind_of(kind).install}")
        except Exception as error:  # as drivers and plug-ins fail
            text = f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield Finding("accelerators", text, f"look at the driver; {kinds.kind_of(kind).install}")


def _described(kind: str) -> Finding:
    count = kinds.count(kind)
    if not count or kinds.hardware(kind) == "CPU":
        text = f"{kind}: its plug-in is installed, and sees no {kinds.kind_of(kind).chips}"
        return Finding("accelerators", text, "look at the driver, and at the variables that hide devices")
    first = torch.device(kind) if not kinds.kind_of(kind).shared else torch.device(kind, 0)
    names = [escaped(name) for name in (kinds.model(first),) if name]
    able = ["bf16" if supports_bf16(first) else "no bf16", *(["tf32"] if has_tf32(first) else [])]
    return Finding("accelerators", f'{count} x {kind}: {", ".join([*names, *able])}; [run] device = "{kind}"')


def _none() -> Finding:
    if shutil.which("nvidia-smi") or kinds.seems_there():
        advice = 'this machine seems to have a GPU: install the torch built for it (pytorch.org), or say device = "cpu"'
        return Finding("accelerators", "torch sees none", advice)
    return Finding("accelerators", "none: ranks compute on the CPU")


def _cpu_bf16() -> Finding:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    native = sorted(words & {"avx512_bf16", "amx_bf16", "bf16"})
    capability = torch.backends.cpu.get_cpu_capability()
    if native:
        return Finding("bf16", f"computed by the CPU ({', '.join(native)}; torch uses {capability})")
    return Finding(
        "bf16", f"works, but this CPU has no instructions for it (torch uses {capability}): slower than float32"
    )


def _compiler() -> Finding:
    """What torch.compile needs, looked for and not tried: trying it takes seconds."""
    tools = [tool for tool in ("g++", "clang++", "c++") if shutil.which(tool)]
    triton = importlib.util.find_spec("triton") is not None
    text = f"a C++ compiler ({tools[0]})" if tools else "no C++ compiler"
    text += ", Triton" if triton else ", no Triton (GPUs need it)"
    return Finding("compile", text, "" if tools else "install g++ for [run] compile = true; nothing else needs it")
