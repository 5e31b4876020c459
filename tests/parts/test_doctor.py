"""What doctor says of this machine, and of machines where something is missing."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from app import doctor
from app.parallel import doctor as parallel_doctor
from app.report.finding import Finding
from tests.launch import launcher

TREE = Path(__file__).parents[2]


def examined(*before: str) -> subprocess.CompletedProcess:
    words = [*before, sys.executable, "-m", "app", "doctor"]
    return subprocess.run(words, cwd=TREE, capture_output=True, text=True, timeout=120)


def line(text: str, subject: str) -> str:
    return next(one for one in text.splitlines() if one[6:].startswith(f"{subject} "))


def test_doctor_alone():
    import h5py
    import torch

    done = examined()
    assert (done.returncode, done.stderr) == (0, "")
    assert torch.__version__ in line(done.stdout, "torch")
    assert h5py.__version__ in line(done.stdout, "HDF5")
    assert "gzip" in line(done.stdout, "HDF5")
    assert "thread level multiple" in line(done.stdout, "MPI")
    for subject in ("Phalanx", "mpirun", "Horovod", "accelerators", "bf16", "cores", "/dev/shm"):
        assert line(done.stdout, subject)


def test_doctor_over_ranks():
    """One rank speaks, about all."""
    done = examined(*launcher(2))
    assert done.returncode == 0
    assert done.stdout.count("ok    MPI ") == 1
    ranks = [one for one in done.stdout.splitlines() if one[6:].startswith("rank ")]
    assert ["0 of 2" in ranks[0], "1 of 2" in ranks[1]] == [True, True]


def test_advice_stands_under_its_line():
    assert Finding("a", "is there").lines(3) == ["ok    a    is there"]
    assert Finding("a", "is not", "get it").lines(3) == ["note  a    is not", "           -> get it"]
    assert Finding("a", "is not", "get it", serious=True).lines(3)[0] == "BAD   a    is not"


def test_a_package_that_is_missing_is_serious(monkeypatch):
    monkeypatch.setattr(doctor, "ROOMS", {"HDF5": "app.storage.versions"})
    monkeypatch.setitem(sys.modules, "h5py", None)
    lines, well = doctor.examine()
    assert not well
    assert any(one.startswith("BAD   HDF5") for one in lines)
    assert any("-> make install" in one for one in lines)


def test_horovod_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = parallel_doctor._horovod()
    assert "not installed" in found.text
    assert "make horovod" in found.advice
    assert not found.serious


def test_mpi_that_cannot_start(monkeypatch):
    monkeypatch.setattr(parallel_doctor, "TRY", "raise SystemExit('libmpi.so: cannot open shared object file')")
    found = parallel_doctor.examine()[0]
    assert found.serious
    assert "libmpi.so: cannot open shared object file" in found.text


@pytest.mark.parametrize(
    ("mpirun", "library", "same"),
    [
        ("mpirun (Open MPI) 5.0.11", "Open MPI v5.0.11", True),
        ("mpirun (Open MPI) 4.1.4", "Open MPI v5.0.11", False),
        ("prterun (PRRTE) 3.0.1", "MPICH Version: 4.2", False),
        ("HYDRA build details:", "MPICH Version: 4.2", True),
        ("HYDRA build details:", "Open MPI v5.0.11", False),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.10", "Intel(R) MPI Library 2021.10", True),
        ("cannot be run: Permission denied", "something new", False),
    ],
)
def test_which_mpirun_belongs_to_which_library(mpirun, library, same):
    assert parallel_doctor.belongs(mpirun, library) == same


def test_the_wrong_mpirun_is_told(monkeypatch, tmp_path):
    other = tmp_path / "mpirun"
    other.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 3.1.0'\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = parallel_doctor._mpirun("Open MPI v5.0.11")
    assert "mpirun (Open MPI) 3.1.0" in found.text
    assert "start with" in found.advice


def test_little_shared_memory_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "ENOUGH_SHARED", 1 << 60)
    assert "--shm-size" in doctor._shared().advice


def test_cores_that_the_environment_decides():
    assert "OMP_NUM_THREADS = 3" in doctor._cores({"OMP_NUM_THREADS": "3"}).text


def test_ranges_of_cores():
    assert parallel_doctor._ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert parallel_doctor._ranges([3]) == "3"
