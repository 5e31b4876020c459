#!/usr/bin/env bash
# Phases of one input file as jobs that follow each other, each with resources of its own. On the login node:
#   slurm/chain.sh inputs/x.toml "prepare: -N 2" "train: -N 4 --gpus-per-node=4" "predict"
# Each "PHASE: OPTIONS of sbatch" is a job that goes on to the end of that phase. The numbers of the jobs are printed.
# When a job fails, those after it are cancelled; started once more, the same command goes on where they stopped.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd) || exit
[ $# -ge 2 ] || { echo "usage: $0 INPUT.toml \"PHASE: OPTIONS of sbatch\"..." >&2; exit 2; }
input=$1
shift
[ -r "$input" ] || { echo "$input: no such input file" >&2; exit 2; }

jobs=()
for link in "$@"; do
    phase=${link%%:*}
    options=()
    [ "$phase" = "$link" ] || read -ra options <<<"${link#*:}"
    [ ${#jobs[@]} -eq 0 ] || options=("--dependency=afterok:${jobs[-1]}" --kill-on-invalid-dep=yes "${options[@]}")
    script=("$here/run.sh" "$input" --until "$phase")
    if ! job=$(sbatch --parsable --job-name="phalanx-$phase" "${options[@]}" "${script[@]}"); then
        echo "$phase: not submitted, so the jobs before it are cancelled: ${jobs[*]:-none}" >&2
        [ ${#jobs[@]} -eq 0 ] || scancel "${jobs[@]}"
        exit 1
    fi
    jobs+=("${job%%;*}") # where Slurm has several clusters, the name of one follows
    echo "${jobs[-1]} $phase"
done
