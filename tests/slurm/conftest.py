"""The cluster: one for all tests of this folder."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster, jobs


@pytest.fixture(scope="session")
def slurm() -> Iterator[cluster.Cluster]:
    """A running Slurm of two nodes. Where there can be none the test is skipped, in CI it fails."""
    why = cluster.missing() or _without_phalanx()
    if why:
        _refuse(why)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # or daemons outlive a time limit around pytest
    with cluster.Cluster() as started:
        yield started
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def pmix(slurm: cluster.Cluster) -> cluster.Cluster:
    """One whose srun starts ranks that find each other."""
    ended = slurm.tried("srun", "-N2", "--mpi=pmix", "true")
    if ended.returncode:
        _refuse(f"srun --mpi=pmix: install libpmix-dev: {ended.stderr}")
    return slurm


@pytest.fixture(scope="session")
def two_hosts(slurm: cluster.Cluster) -> cluster.Cluster:
    """One whose nodes have host names of their own, without which mpirun takes both for one."""
    if not slurm.own_hosts:
        _refuse("host names of their own: needs root and unshare")
    return slurm


@pytest.fixture(scope="session")
def straight(pmix: cluster.Cluster, tmp_path_factory: pytest.TempPathFactory):
    """Run folders of jobs on two nodes that nothing stops, each made once: straight(steps)."""
    folders: dict[int, Path] = {}

    def once(steps: int) -> Path:
        if steps not in folders:
            file = jobs.write(tmp_path_factory.mktemp("straight"), steps=steps, sleep_s=0.0)
            jobs.submit(pmix, file).completed()
            folders[steps] = file.with_suffix("")
        return folders[steps]

    return once


def _without_phalanx() -> str:
    """The batch scripts take phalanx from PATH, or from the .venv of this working tree."""
    beside = Path(sys.executable).with_name("phalanx")
    return "" if beside.exists() else f"{beside} not found: make install"


def _refuse(why: str) -> None:
    """CI installs all it takes."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
