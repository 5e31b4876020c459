#!/usr/bin/env bash
# As run.sh, one GPU a rank:  sbatch -N 2 --ntasks-per-node=4 slurm/run-gpu.sh INPUT.toml [arguments of phalanx run]
#SBATCH --job-name=phalanx
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --signal=B:USR1@120
set -uo pipefail

# sbatch runs a copy of this file: Slurm knows where the folder is from which it was taken.
slurm_command() { scontrol show job "$SLURM_JOB_ID" | sed -n '/^ *Command=/{s///; s/\.sh .*/.sh/; p; q}'; }
PHALANX_SLURM=${PHALANX_SLURM:-$(dirname "$(slurm_command)")}
[ -f "$PHALANX_SLURM/job.sh" ] || PHALANX_SLURM=${SLURM_SUBMIT_DIR:-.}/slurm
export PHALANX_SLURM
# shellcheck disable=SC1091
. "$PHALANX_SLURM/environment.sh" && . "$PHALANX_SLURM/job.sh" || exit 2

run_input "$@"
