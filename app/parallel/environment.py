"""Variables that MPI and Horovod read once, when they start. Standard library only: runs before mpi4py is imported."""

from collections.abc import MutableMapping

# Waiting ranks give their core away. Costs nothing when every rank has its own core; without it a rank (or Horovod's
# background thread) that waits burns the core on which another one computes.
YIELD = {"OMPI_MCA_mpi_yield_when_idle": "1"}

# We open windows only for shared memory, and the UCX component prints errors while it is asked whether it could help.
WINDOWS = {"OMPI_MCA_osc": "^ucx"}

# Horovod reads these at hvd.init. Its thread wakes once per cycle on the core that computes: short cycles slow the
# computation, long ones delay the sum. We put small tensors into one bucket ourselves, so fusion would only copy the
# large ones, and its timing would change the order of summation from run to run.
HOROVOD = {"HOROVOD_CYCLE_TIME": "1", "HOROVOD_FUSION_THRESHOLD": "0"}


def prepare(environ: MutableMapping[str, str], allreduce: str = "auto") -> None:
    """Set what must be set before MPI starts; never changes a variable that is there already.

    Open MPI's variables are without effect in other MPI libraries. Collective over: none.
    """
    settings = {"OMPI_MCA_btl": _transports(environ), **YIELD, **WINDOWS}
    if allreduce != "mpi":
        settings |= HOROVOD
    for name, value in settings.items():
        environ.setdefault(name, value)


def _transports(environ: MutableMapping[str, str]) -> str:
    """Open MPI's transports: probing libfabric ("ofi") costs a second of every start, TCP is of no use on one host.

    An exclusion list, because the shared-memory transport is called "vader" in Open MPI 4 and "sm" in 5.
    """
    return "^ofi,tcp" if _one_host(environ) else "^ofi"


def _one_host(environ: MutableMapping[str, str]) -> bool:
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return environ["OMPI_COMM_WORLD_SIZE"] == environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if "SLURM_STEP_NUM_NODES" in environ:
        return environ["SLURM_STEP_NUM_NODES"] == "1"
    return "PMIX_RANK" not in environ and "PMI_RANK" not in environ
