#!/usr/bin/env bash
# Puts Horovod into a virtual environment:  install/horovod.sh VENV
#
# The last release on PyPI (0.28.1, 2023) asks for C++14 while torch's headers need C++20, so the source is patched and
# built here, once for each machine set-up: the wheel is kept in a cache that every clone shares.
# Where that fails the program still works (allreduce = "mpi"), so the script says so and ends with success.
set -euo pipefail

version=0.28.1
recipe=1 # raise it when the way of building below changes: it is part of the cache key
here=$(cd "$(dirname "$0")" && pwd)
venv=$(cd "$1" && pwd)
python=$venv/bin/python
log=$venv/horovod-build.log
state=$venv/.horovod # "in" or "missing"; read by `make install`
work=$(mktemp -d)
step="looking at torch and MPI"
: >"$log"

finish() {
    local status=$?
    rm -rf "$work"
    [ "$status" -eq 0 ] && return
    echo missing >"$state"
    cat <<MESSAGE

    ----------------------------------------------------------------------------------
    Horovod $version could not be built (while $step).

      Everything works without it: keep  allreduce = "auto"  or write  allreduce = "mpi"
      in the input file; gradients are then summed through mpi4py.

      Log:        $log
      Try again:  make horovod
    ----------------------------------------------------------------------------------

MESSAGE
    exit 0
}
trap finish EXIT
trap 'trap - EXIT; rm -rf "$work"; exit 130' INT TERM

pip() { PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip "$@" -c "$here/constraints.txt" >>"$log" 2>&1; }

# Where NCCL is: a folder with include/ and lib/, "system" where the compiler finds it by itself, nothing without it.
# The user's choice comes first, then the machine's, then the one that a CUDA torch brings along.
find_nccl() {
    local place
    for place in "${HOROVOD_NCCL_HOME:-}" "${NCCL_HOME:-}" "${NCCL_ROOT:-}"; do
        [ -n "$place" ] && [ -e "$place/include/nccl.h" ] && echo "$place" && return
    done
    for place in /usr/include /usr/local/include /usr/local/cuda/include; do
        [ -e "$place/nccl.h" ] && echo system && return
    done
    "$python" -c 'import nvidia.nccl as n; print(list(n.__path__)[0])' 2>>"$log" || true
}

# torch version, MPI version, Python version, CPU architecture, cpu or CUDA version, with NCCL or without: what a built
# wheel depends on.
key() {
    NCCL=$(find_nccl) "$python" - <<'PYTHON'
import os, platform, re, shutil, sys
import mpi4py
mpi4py.rc.initialize = False  # the version can be asked without starting MPI
from mpi4py import MPI
import torch

library = MPI.Get_library_version().splitlines()[0].split(",")[0]
cuda = torch.version.cuda if shutil.which("nvcc") and os.environ["NCCL"] else None
parts = [f"torch-{torch.__version__}", library, f"py{sys.version_info.major}.{sys.version_info.minor}",
         platform.machine(), f"cuda-{cuda}" if cuda else "cpu"]
print("_".join(re.sub(r"[^\w.+-]+", "-", part.strip()) for part in parts))
PYTHON
}

# Says on standard output what this Horovod can do; fails where it cannot be imported or lacks MPI.
check() {
    "$python" - <<'PYTHON' 2>>"$log"
import mpi4py.MPI  # before Horovod, as the program does: otherwise Horovod owns MPI_Finalize
import horovod, horovod.torch as hvd

if not hvd.mpi_built():
    raise SystemExit("this Horovod was built without MPI")
print(f"Horovod {horovod.__version__} is in (MPI" + (", NCCL)" if hvd.nccl_built() else ")"))
PYTHON
}

unpack() {
    # the build tools that Horovod's setup.py imports; --no-build-isolation, because it must see the installed torch
    pip install cmake wheel setuptools packaging cffi cloudpickle psutil pyyaml
    pip download --no-deps --no-binary horovod --no-build-isolation --dest "$work" "horovod==$version"
    tar -xzf "$work/horovod-$version.tar.gz" -C "$work"
}

patch_source() {
    local lists=("$work/horovod-$version/CMakeLists.txt" "$work/horovod-$version/horovod/torch/CMakeLists.txt")
    sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/' "${lists[@]}"
    grep -q 'CMAKE_CXX_STANDARD 20' "${lists[0]}"
    grep -q 'CMAKE_CXX_STANDARD 20' "${lists[1]}"
    # libmpi and torch's libraries are looked for beside the wheel first: the cached wheel serves other clones too
    # shellcheck disable=SC2016 # $ORIGIN is for the dynamic linker
    sed -i '1i set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)\nset(CMAKE_INSTALL_RPATH "$ORIGIN/../../../..;$ORIGIN/../../torch/lib")' \
        "${lists[0]}"
}

# With a CUDA torch, nvcc and NCCL, gradients are summed on the GPUs.
use_gpu() {
    local nccl
    nccl=$(find_nccl)
    export HOROVOD_GPU_OPERATIONS=NCCL
    HOROVOD_BUILD_CUDA_CC_LIST=${HOROVOD_BUILD_CUDA_CC_LIST:-$("$python" -c \
        'import re, torch; print(",".join(re.findall(r"sm_(\d+)\b", " ".join(torch.cuda.get_arch_list()))))')}
    export HOROVOD_BUILD_CUDA_CC_LIST
    [ "$nccl" = system ] && return
    if [ -e "$nccl/lib/libnccl.so" ] || [ -e "$nccl/lib64/libnccl.so" ]; then
        export HOROVOD_NCCL_HOME=$nccl
        return
    fi
    # torch's wheel has libnccl.so.2 only; the linker wants libnccl.so
    mkdir -p "$work/nccl/lib"
    ln -s "$nccl/include" "$work/nccl/include"
    ln -s "$nccl/lib/libnccl.so.2" "$work/nccl/lib/libnccl.so"
    export HOROVOD_NCCL_HOME=$work/nccl HOROVOD_NCCL_LINK=SHARED
}

build() {
    # mpicxx and cmake of the virtual environment come before the machine's
    export PATH="$venv/bin:$PATH" MAKEFLAGS="-j${HOROVOD_BUILD_JOBS:-2}"
    export HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
    pip wheel --no-deps --no-build-isolation --wheel-dir "$work/wheel" "$work/horovod-$version"
}

key=$(key 2>>"$log")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/phalanx/wheels/horovod-$version-${recipe}_$key
wheel=$(find "$cache" -name 'horovod-*.whl' 2>/dev/null | head -n 1 || true)

if [ -z "$wheel" ]; then
    echo "Building Horovod $version once for $key: about 2 minutes, log in $log"
    step="fetching its source" && unpack
    step="patching its source" && patch_source
    case $key in *_cuda-*) use_gpu ;; esac
    step="compiling" && build
    mkdir -p "$cache"
    built=$(find "$work/wheel" -name 'horovod-*.whl')
    wheel=$cache/$(basename "$built")
    cp "$built" "$wheel.$$" && mv "$wheel.$$" "$wheel" # never half a wheel in the cache
else
    echo "Horovod $version comes from the cache: $wheel"
fi

step="installing $wheel"
if [ "$(cat "$venv/.horovod-wheel" 2>/dev/null)" != "$wheel" ]; then
    pip install --force-reinstall --no-deps "$wheel"
    pip install cloudpickle psutil pyyaml packaging # what it needs at run time
    echo "$wheel" >"$venv/.horovod-wheel"
fi
step="importing it"
check
echo in >"$state"
