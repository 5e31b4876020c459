# The one place to edit for a site. Every batch script reads it, on the first node of the job, before it starts ranks.

# 1. Modules: the MPI that mpi4py was built with, the compiler's libraries, CUDA.
# module purge
# module load openmpi cuda

# 2. Python: the .venv beside this folder, where there is one.
slurm_venv=${PHALANX_SLURM:?the batch scripts set this}/../.venv
# shellcheck source=/dev/null
if [ -f "$slurm_venv/bin/activate" ]; then . "$slurm_venv/bin/activate"; fi

# 3. Threads and cores: a rank computes with the cores that sbatch --cpus-per-task gives it.
# Since Slurm 22.05 srun no longer takes that number over from sbatch by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
fi

# 4. How ranks are started. auto: srun where this Slurm has pmix, otherwise mpirun; srun; mpirun; or a command line of
# your own, such as PHALANX_LAUNCH="srun --mpi=cray_shasta".
export PHALANX_LAUNCH=${PHALANX_LAUNCH:-auto}

# 5. How often a job may be requeued. One that makes no progress in two lives in a row fails before.
export PHALANX_RESTARTS=${PHALANX_RESTARTS:-50}
