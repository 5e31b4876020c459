"""How much memory a rank has used."""

import resource
import sys
from collections.abc import Sequence

_UNIT = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


def peak_bytes() -> int:
    """The most memory this process has had resident at a time, its libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def peak_line(peaks: Sequence[int], hosts: Sequence[str]) -> str:
    """`peak memory of a rank: 412 MiB at least, 440 MiB at most (rank 1 on node7)`; both by rank."""
    most = max(peaks)
    rank = peaks.index(most)
    if len(peaks) == 1:
        return f"peak memory: {most >> 20} MiB"
    least = min(peaks) >> 20
    return f"peak memory of a rank: {least} MiB at least, {most >> 20} MiB at most (rank {rank} on {hosts[rank]})"
