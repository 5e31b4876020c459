"""Variables that MPI and Horovod read once, when they start. Standard library only: runs before mpi4py is imported."""

from collections.abc import MutableMapping

# Waiting ranks give their core away. Costs nothing when every rank has its own core; without it a rank (or Horovod's
# background thread) that waits burns the core on which another one computes.
YIELD = {"OMPI_MCA_mpi_yield_when_idle": "1"}

# We open windows only for shared memory, and the UCX component prints errors while it is asked whether it could help.
WINDOWS = {"OMPI_MCA_osc": "^ucx"}

# Open MPI's all-reduce on one host: a ring in segments that stay in the L2 cache. 75 MB over 2 ranks: 13 ms against 30
# with the algorithm it takes on its own. Always the same order of summation. Short messages take another way by
# themselves. Over several hosts Open MPI's own choice stands: it knows sizes and ranks, and we have not measured.
ALL_REDUCE = {
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "true",
    "OMPI_MCA_coll_tuned_allreduce_algorithm": "5",
    "OMPI_MCA_coll_tuned_allreduce_algorithm_segmentsize": "524288",
}

# Horovod reads these at hvd.init. Its thread wakes once per cycle (ms) on the core that computes. Long cycles delay the
# sum (5 ms: a LeNet step takes 20 % more than at 1 ms or less); short ones are harmless once waiting ranks yield. We
# put small tensors into one bucket ourselves, so fusion would only copy the large ones, and its timing would change
# the order of summation from run to run.
HOROVOD = {"HOROVOD_CYCLE_TIME": "0.5", "HOROVOD_FUSION_THRESHOLD": "0"}


def prepare(environ: MutableMapping[str, str], allreduce: str = "auto") -> None:
    """Set what must be set before MPI starts; never changes a variable that is there already.

    Open MPI's variables are without effect in other MPI libraries. Collective over: none.
    """
    one_host = _one_host(environ)
    settings = {"OMPI_MCA_btl": _transports(one_host), **YIELD, **WINDOWS}
    if one_host:
        settings |= ALL_REDUCE
    if allreduce != "mpi":
        settings |= HOROVOD
    for name, value in settings.items():
        environ.setdefault(name, value)


def _transports(one_host: bool) -> str:
    """Open MPI's transports: probing libfabric ("ofi") costs a second of every start, TCP is of no use on one host.

    An exclusion list, because the shared-memory transport is called "vader" in Open MPI 4 and "sm" in 5.
    """
    return "^ofi,tcp" if one_host else "^ofi"


def _one_host(environ: MutableMapping[str, str]) -> bool:
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return environ["OMPI_COMM_WORLD_SIZE"] == environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if "SLURM_STEP_NUM_NODES" in environ:
        return environ["SLURM_STEP_NUM_NODES"] == "1"
    return "PMIX_RANK" not in environ and "PMI_RANK" not in environ
