#!/usr/bin/env bash
# Prints the flags this machine's mpirun needs to start N ranks:  install/mpirun-flags.sh MPIRUN N
# Open MPI refuses to run as root and on fewer cores than ranks, unless told; other MPIs do not know these flags.
set -euo pipefail

"$1" --version | grep -q 'Open MPI' || exit 0
cores=$(lscpu --parse=Core,Socket 2>/dev/null | grep -v '^#' | sort -u | wc -l || true)
here=$(nproc) # fewer than all under an affinity mask
[ "$cores" -gt 0 ] && [ "$cores" -lt "$here" ] || cores=$here
[ "$(id -u)" -ne 0 ] || echo --allow-run-as-root
[ "$cores" -ge "$2" ] || echo --oversubscribe
