"""Which device a rank computes on, in which precision, and why it is that one."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from app.errors import MachineError
from app.inputfile.models import Run
from app.learning.devices import compiling, kernels, kinds, precision
from app.parallel.world import World
from app.report.log import escaped

CPU = torch.device("cpu")


class Seat(NamedTuple):
    """Where a rank is: its number among the ranks of its host, and how many they are."""

    local_rank: int
    local_size: int

    @classmethod
    def of(cls, local_rank: int, local_size: int, environ: Mapping[str, str] = os.environ) -> "Seat":
        """As MPI says; where it sees each rank alone (a container for each), as Slurm says."""
        number, tasks = environ.get("SLURM_LOCALID", ""), environ.get("SLURM_NTASKS_PER_NODE", "")
        if local_size == 1 and number.isdigit():
            return cls(int(number), int(tasks) if tasks.isdigit() else 1)
        return cls(local_rank, local_size)


class Where(NamedTuple):
    """What other ranks have to know of a rank's device; alike: the same for ranks that share one."""

    host: str
    kind: str
    alike: str


class Wanted(NamedTuple):
    """Keys of [run]: a kind of device or "auto", the precision, whether chunks are compiled, and replayed as graphs."""

    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    cuda_graphs: bool = False


class Device(NamedTuple):
    """A rank's device, why it is that one, what the numbers are computed in, and what is worth a warning."""

    device: torch.device
    reason: str
    computes: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In words: "cpu", or "cuda:0, NVIDIA H100"."""
        model = "" if self.device.type == "cpu" else kinds.model(self.device)
        return f"{self.device}, {escaped(model)}" if model else str(self.device)

    @property
    def line(self) -> str:
        """For the start-up table: "cuda:1, NVIDIA H100 (auto; 2 ranks share it), float32"."""
        return f"{self.name} ({self.reason}), {self.computes}"

    def where(self, host: str) -> Where:
        """For the other ranks, who pass it to `among`."""
        alike = "" if self.device.type == "cpu" else kinds.identity(self.device)
        return Where(host, self.device.type, alike)

    def among(self, own: Where, everyone: Sequence[Where]) -> "Device":
        """This device when all ranks have chosen: they compute on one kind, and some may share a device.

        Ranks that compute on different kinds of devices would round differently, and replicas drift apart: then all
        take the CPU. It happens with "auto" alone. Collective over: none, the same `everyone` on all ranks.
        """
        found = Counter(one.kind for one in everyone)
        if len(found) > 1:
            without = next((one.host for one in everyone if one.kind == "cpu"), everyone[0].host)
            reason = f"auto: not all ranks have the same kind of device ({', '.join(sorted(found))}; see {without})"
            note = f"{reason[6:]}: all compute on the CPU. Choose hosts that are alike, or name the device."
            computes = self.computes.replace("tf32", "float32")
            return self._replace(device=CPU, reason=reason, computes=computes, notes=(*self.notes, note))
        sharing = sum(one == own for one in everyone) if own.alike else 1
        if sharing == 1:
            return self
        note = (
            f"{sharing} ranks on {own.host} share a device, and others may too: they take turns. As many ranks a host"
            " as it has devices are as fast, in less memory."
        )
        return self._replace(reason=f"{self.reason}; {sharing} ranks share it", notes=(*self.notes, note))


def choose_devices(run: Run, world: World) -> Device:
    """This rank's device, with what any rank has to warn of; what [run] asks for and is not there is refused on all.

    Collective over: world. Raises MachineError.
    """
    wanted = Wanted(run.device, run.precision, run.compile, run.cuda_graphs)
    seat = Seat.of(world.local_rank, world.local_size)
    chosen = world.together(lambda: choose_device(wanted, seat))
    own = chosen.where(world.host)
    chosen = chosen.among(own, world.allgather(own))
    everyones = dict.fromkeys(note for notes in world.allgather(chosen.notes) for note in notes)
    return chosen._replace(notes=tuple(everyones))


def choose_device(wanted: Wanted, seat: Seat) -> Device:
    """The ranks of a host take its devices in turn; torch is set to the precision.

    Collective over: none. Raises MachineError when a named device is not there, or does not compute in the precision.
    """
    if wanted.device == "cpu":
        device, reason = CPU, "asked for"
    elif wanted.device == "auto":
        device, reason = _automatic(seat)
    else:
        device, reason = _named(wanted.device, seat)
    if wanted.precision == "bf16" and not precision.supports_bf16(device):
        raise MachineError(f'[run] precision = "bf16", but {device} does not compute in it; say "float32".')
    kernels.lend(device.type)
    computes, notes = precision.settle(device, wanted.precision)
    trouble = compiling.trouble(device) if wanted.compile else ""
    if trouble:
        notes += (f"[run] compile = true, but torch cannot compile for {device.type} here: {trouble}. Layers run as"
                  " they are.",)  # fmt: skip
    if device.type == "xla":
        notes += ("dropout on xla is drawn by the device's own generator: it is not the same on other grids.",)
    if wanted.cuda_graphs and device.type != "cuda":
        notes += (f"[run] cuda_graphs = true, but {device.type} has none: nothing is recorded.",)
    return Device(device, reason, computes + (", compiled" if wanted.compile and not trouble else ""), notes)


def _automatic(seat: Seat) -> tuple[torch.device, str]:
    """The accelerator that torch sees, or else that of an installed plug-in, or else the CPU."""
    own, troubles = kinds.torchs_own(), []
    for kind in dict.fromkeys([own, *filter(kinds.installed, kinds.KINDS)]):
        if kind:
            try:
                return _bound(kind, seat, "auto", real=True)
            except MachineError as error:
                troubles.append(" ".join(error.problems))
    return CPU, "auto: " + ("; ".join(troubles) if troubles else "torch sees no accelerator")


def _named(kind: str, seat: Seat) -> tuple[torch.device, str]:
    try:
        return _bound(kind, seat, "asked for", real=False)
    except MachineError as error:
        raise MachineError(
            *(f'[run] device = "{kind}": {text} Or say "auto" or "cpu".' for text in error.problems)
        ) from None


def _bound(kind: str, seat: Seat, why: str, *, real: bool) -> tuple[torch.device, str]:
    """This rank's device of a kind. real: not one that only looks so, such as XLA on the CPU. Raises MachineError."""
    kinds.load(kind, seat.local_rank)
    try:
        there = 0 if real and kinds.hardware(kind) == "CPU" else kinds.count(kind)
        _refuse_too_few(kind, there, seat)
        device = kinds.take(kind, seat.local_rank % there)
    except (RuntimeError, ImportError, OSError, AttributeError) as error:  # as drivers and plug-ins fail
        text = " ".join(str(error).split())[:300]
        raise MachineError(f"it cannot be used: {type(error).__name__}: {text}.") from error
    return device, why if there == 1 else f"{why}; {there} {kind} devices here"


def _refuse_too_few(kind: str, there: int, seat: Seat) -> None:
    known = kinds.kind_of(kind)
    if not there:
        own = kinds.torchs_own()
        other = f'; what it sees is "{own}"' if own and own != kind else ""
        raise MachineError(
            f"this torch ({torch.__version__}) sees no {known.chips}{other}. What is needed: {known.install}."
        )
    # One that sees a single device of its own has been given it by its environment.
    if not known.shared and 1 < there <= seat.local_rank:
        raise MachineError(
            f"{seat.local_size} ranks on this host, but it has {there} of {known.chips}, which ranks cannot share;"
            f" start at most {there} ranks a host."
        )
