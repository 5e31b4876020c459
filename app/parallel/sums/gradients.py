"""Which engine sums the gradients: a fixed rule, never timing, so that runs repeat."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from app.errors import MachineError
from app.parallel.group import Group

if TYPE_CHECKING:
    import torch

Wanted = Literal["auto", "horovod", "mpi"]


class GradientSum(Protocol):
    """Sums lists of tensors over the ranks of a group."""

    name: str
    reason: str

    def sum_(self, tensors: "Sequence[torch.Tensor]") -> None:
        """Sum in place; same bits on every rank, and from run to run. Collective over: data.

        Any shapes, layouts and mixed types (bfloat16 is summed in float32). The tensors may be others at each call,
        their number, shapes and types may not. Raises NumbersError when they change or differ between ranks.
        """

    def close(self) -> None:
        """Give back what the engine holds. Collective over: data."""


class NoSum:
    """One rank: there is nothing to sum."""

    name = "none"
    reason = "none: one rank has nothing to sum"

    def sum_(self, tensors: "Sequence[torch.Tensor]") -> None:
        """Leave the tensors as they are. Collective over: none."""

    def close(self) -> None:
        """Nothing to give back."""


def choose(
    group: Group, *, wanted: Wanted, device_type: str, hosts: int, thread_level: str = "multiple"
) -> GradientSum:
    """The engine for this group. hosts: number of hosts of the group; thread_level: what MPI allows threads.

    Collective over: data. Raises MachineError when Horovod is wanted and not there.
    """
    if group.size == 1:
        return NoSum()
    if wanted == "mpi":
        return _mpi(group, hosts, "the input file says so; ")
    if wanted == "auto" and device_type == "cpu" and hosts == 1:
        return _mpi(group, hosts, "")
    trouble = _horovod_trouble(group, device_type, thread_level)
    if trouble and wanted == "horovod":
        raise MachineError(
            f'[grid] allreduce = "horovod", but {trouble}. Expected an installed Horovod; '
            'try allreduce = "mpi", or see what phalanx doctor says about building it.'
        ).on_every_rank()
    if trouble:
        return _mpi(group, hosts, f"{trouble} (phalanx doctor says how); ")
    return _horovod(group, "the input file says so" if wanted == "horovod" else _why(device_type, hosts))


def _why(device_type: str, hosts: int) -> str:
    place = f"{hosts} hosts" if hosts > 1 else "one host"
    return place if device_type == "cpu" else f"{place}; {device_type} tensors stay on their device"


def _horovod_trouble(group: Group, device_type: str, thread_level: str) -> str | None:
    """Why Horovod cannot be used, or None."""
    from app.parallel.sums import horovod_sum

    if thread_level != "multiple":  # its thread talks to the others while ours sends activations
        return f"this MPI allows threads at level {thread_level}, and Horovod beside other messages needs multiple"
    if not horovod_sum.installed(group):
        return "Horovod is not installed"
    if device_type not in ("cpu", "cuda"):
        return f"Horovod knows no {device_type} tensors"
    if device_type != "cpu" and not all(group.allgather(horovod_sum.has_nccl())):
        return "Horovod was built without NCCL"
    return None


def _mpi(group: Group, hosts: int, because: str) -> GradientSum:
    from app.parallel.sums.mpi_sum import open_mpi_sum

    engine = open_mpi_sum(group, hosts)
    engine.reason = engine.reason.replace("mpi: ", f"mpi: {because}", 1)
    return engine


def _horovod(group: Group, reason: str) -> GradientSum:
    from app.parallel.sums.horovod_sum import HorovodSum

    return HorovodSum(group, f"horovod: {reason}")
