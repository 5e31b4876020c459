"""What this machine has, what is missing, and what to do about it: the findings of each room, and of the system."""

import importlib.util
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import app
from app.report.finding import Finding

# Each room examines what only it may import. MPI first: it has to start before Horovod is loaded.
ROOMS = {"MPI": "app.parallel.doctor", "torch": "app.learning.devices.examine", "HDF5": "app.storage.versions"}
RUNTIME = "onnxruntime"  # several packages bring it, each with other execution providers
SHARED = Path("/dev/shm")
ENOUGH_SHARED = 512 << 20  # gradients of ranks on one host are summed there
ENOUGH_FILES = 1024


def examine() -> tuple[list[str], bool]:
    """Lines to print, none on ranks that stay silent, and whether nothing serious was found.

    Collective over: world, where a launcher started several ranks.
    """
    from app.parallel.doctor import speaks

    found = [_python()]
    for name, module in ROOMS.items():
        found += _examined(name, module)
    found += [_runtime(), _cores(os.environ), *filter(None, (_shared(), _temporary())), *_limits()]
    width = max(len(finding.subject) for finding in found)
    lines = [line for finding in found for line in finding.lines(width)]
    return (lines if speaks() else []), not any(finding.serious for finding in found)


def _examined(name: str, module: str) -> list[Finding]:
    """A room's findings; a package that cannot be imported is itself one."""
    try:
        room: Callable[[], list[Finding]] = import_module(module).examine
        return room()
    except (ImportError, OSError) as error:
        return [Finding(name, f"cannot be used: {error}", "make install", serious=True)]


def _runtime() -> Finding:
    """ONNX Runtime and where it can execute networks: what [[phase]] predict may name as provider."""
    if importlib.util.find_spec(RUNTIME) is None:
        advice = "pip install onnxruntime (onnxruntime-gpu, onnxruntime-openvino, ... for other chips than the CPU)"
        return Finding("ONNX Runtime", "not installed: exported networks are neither checked nor run", advice)
    try:
        runtime = import_module(RUNTIME)
        providers: list[str] = runtime.get_available_providers()
    except (ImportError, OSError, AttributeError) as error:
        return Finding("ONNX Runtime", f"cannot be used: {error}", "install it again, one package of it alone")
    return Finding("ONNX Runtime", f"{runtime.__version__}: {', '.join(providers)}")


def _python() -> Finding:
    text = f"{app.__version__}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}"
    return Finding("Phalanx", text)


def _cores(environ: "os._Environ[str] | dict[str, str]") -> Finding:
    """Cores of the host, those this process may use, and what the environment says about threads."""
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    text = f"{there} on this host, {usable} for this process"
    if (limit := _quota()) and limit < usable:
        return Finding(
            "cores", f"{text}, but its container may use only {limit:g}", f"set [run] threads, at most {limit:g} in all"
        )
    if wanted := environ.get("OMP_NUM_THREADS"):
        return Finding("cores", f"{text}; OMP_NUM_THREADS = {wanted} decides the threads of a rank")
    if usable == 1 < there:
        advice = "bound to one core; for more threads a rank: mpirun --map-by slot:PE=4, or srun --cpus-per-task=4"
        return Finding("cores", text, advice)
    return Finding("cores", text)


def _quota() -> float | None:
    """Cores that the control group of a container allows, None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _shared() -> Finding:
    """Room for what ranks of a host share."""
    subject = str(SHARED)
    if not os.access(SHARED, os.W_OK):
        return Finding(
            subject, "cannot be written", "sums between ranks of a host go through MPI, slower; mount a tmpfs"
        )
    free = shutil.disk_usage(SHARED).free
    text = f"{free >> 20:,} MiB free"
    if free < ENOUGH_SHARED:
        advice = "large networks need more; in a container: --shm-size=4g; otherwise remove old files there"
        return Finding(subject, text, advice)
    return Finding(subject, text)


def _temporary() -> Finding | None:
    """MPI keeps its sockets there; long paths and full disks stop it with words that say neither."""
    folder = os.environ.get("TMPDIR", "/tmp")
    if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 16 << 20 and len(folder) <= 60:
        return None
    return Finding("TMPDIR", f"{folder}: not writable, full, or a long path", "export TMPDIR=/tmp", serious=False)


def _limits() -> list[Finding]:
    """Limits of the shell (ulimit) that end runs; those that are wide enough make one line."""
    unlimited = resource.RLIM_INFINITY
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found = []
    if files != unlimited and files < ENOUGH_FILES:
        found.append(Finding("ulimit -n", f"{files} open files", f"ulimit -n {ENOUGH_FILES}"))
    for option, name, what in (("v", resource.RLIMIT_AS, "address space"), ("f", resource.RLIMIT_FSIZE, "file size")):
        limit = resource.getrlimit(name)[0]
        if limit != unlimited:
            text = f"{what} of at most {limit >> 20:,} MiB"
            found.append(Finding(f"ulimit -{option}", text, f"ulimit -{option} unlimited, before the run"))
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if locked != unlimited and Path("/sys/class/infiniband").is_dir():
        text = f"{locked >> 10:,} KiB of locked memory, with InfiniBand here"
        found.append(
            Finding("ulimit -l", text, "ask for unlimited: /etc/security/limits.conf, or LimitMEMLOCK of slurmd")
        )
    return found or [Finding("limits", f"{files} open files; address space and file size unlimited")]
