# Read by the batch scripts: one input file in this allocation, from its start to its end or to the next requeue.
# run_input INPUT [arguments of phalanx run] returns 0: done; 75: stopped, submit again; anything else: failed.
# run_task INPUT... [--options of phalanx run]: the same for the input that is this array task's.

say() { echo "$(date '+%F %T') $job: $*"; }

# A task of an array has a name of its own: SLURM_JOB_ID of the last task is that of the whole array.
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
else
    job=${SLURM_JOB_ID:?to be submitted with sbatch}
fi
life=${SLURM_RESTART_COUNT:-0} # how often Slurm has started this job again
launcher=                      # its process, while it lives
stopping=                      # the signal that asks us to stop

run_input() {
    local before after code=0
    arguments "$@" || return
    trap 'stop USR1' USR1
    trap 'stop TERM' TERM
    before=$(env -u PHALANX_LIFE "${status[@]}") || return
    say "start $((life + 1)) on ${SLURM_JOB_NODELIST:-?}: $1 is ${before% *} at ${before#* }"
    export PHALANX_LIFE=$job.$life.$RANDOM # so that no last word of an earlier life counts
    launch || code=$?
    trap '' USR1 TERM
    after=$("${status[@]}") || after="unknown ${before#* }"
    decide "$before" "$after" "$code"
}

run_task() {
    local inputs=()
    while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do inputs+=("$1"); shift; done
    local number=${SLURM_ARRAY_TASK_ID:-0}
    [ "$number" -lt ${#inputs[@]} ] || { say "task $number of ${#inputs[@]} input files: they count from 0"; return 2; }
    run_input "${inputs[number]}" "$@"
}

# run: phalanx run and what it gets. status: phalanx status, which knows of all that --set alone; it prints one line,
# STATE PLACE, and PLACE changes whenever there is progress that a restart keeps.
# --fresh counts in the first life only, or every restart would begin from nothing.
arguments() {
    [ $# -gt 0 ] || { say "give an input file: sbatch [options] $0 INPUT.toml"; return 2; }
    run=(phalanx run "$1") status=(phalanx status --brief "$1")
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --set) run+=("$1" "${2-}") status+=("$1" "${2-}"); shift ;;
            --set=*) run+=("$1") status+=("$1") ;;
            --fresh) [ "$life" -gt 0 ] || run+=("$1") ;;
            *) run+=("$1") ;;
        esac
        shift
    done
}

# Sets command: what starts one rank for each task of the allocation.
choose_launcher() {
    local kind=${PHALANX_LAUNCH:-auto}
    if [ "$kind" = auto ]; then
        kind=mpirun
        if srun --mpi=list 2>&1 | grep -qw pmix; then kind=srun; fi
    fi
    case $kind in
        # The two variables keep Open MPI from warning of ways into PMIx that Slurm does not offer.
        srun) command=(srun --mpi=pmix --kill-on-bad-exit=1 env PMIX_SECURITY_MODE=native PMIX_GDS_MODULE=hash) ;;
        mpirun) command=(mpirun) ;;
        *) read -ra command <<<"$kind" ;;
    esac
    [ "$kind" = mpirun ] && mpirun --version 2>&1 | grep -qE 'Open MPI|PRRTE' || return 0
    command+=(--bind-to none) # the ranks of a node share its cores out themselves
    [ "$(id -u)" -ne 0 ] || command+=(--allow-run-as-root)
}

launch() {
    local command code=0
    [ -z "$stopping" ] || return 75
    choose_launcher
    say "${command[*]} ${run[*]}"
    "${command[@]}" "${run[@]}" &
    launcher=$!
    # A signal ends wait, not the launcher.
    while kill -0 "$launcher" 2>/dev/null; do
        wait "$launcher"
        code=$?
        [ "$stopping" != TERM ] || ends_soon || break
    done
    launcher=
    return "$code"
}

# After TERM Slurm kills the ranks and this script together (KillWait: 30 s by default), which must decide before.
ends_soon() {
    for _ in {1..15}; do
        kill -0 "$launcher" 2>/dev/null || return 0
        sleep 1
    done
    say "the ranks have not stopped within 15 s"
    return 1
}

# Every launcher hands USR1 on to the ranks, which save and stop; mpirun would kill them at once after TERM.
stop() {
    stopping=$1
    [ -n "$launcher" ] || return 0
    say "signal $1: the ranks are asked to save and stop"
    kill -USR1 "$launcher" 2>/dev/null
}

# The application's last word decides; a launcher may return 0 after it has lost a node.
decide() { # BEFORE AFTER CODE
    local state=${2% *} failed=$3 earlier
    [ "$failed" -ne 0 ] || failed=1
    case $state in
        done)
            [ "$3" -ne 3 ] || { say "done, and what was predicted has drifted: code 3"; return 3; }
            [ "$3" -eq 0 ] || say "warning: done, and yet the launcher returned $3"
            say "done"
            return 0 ;;
        held) say "stopped by the file stop in the run folder: not requeued. The same sbatch goes on"; return 75 ;;
        failed) say "failed, code $failed: not requeued"; return "$failed" ;;
        *) [ "$3" -ne 2 ] || { say "refused, code 2: not requeued"; return 2; } ;;
    esac
    say "$state, code $3"
    ended_by_slurm && return 75
    if [ "$life" -gt 0 ] && [ "${1#* }" = "${2#* }" ]; then
        earlier=$(place_before)
        if [ "${earlier:-${1#* }}" = "${1#* }" ]; then
            say "no progress in this life and the one before it: not requeued. Where nothing else is wrong, more time" \
                "or checkpoints more often (checkpoint_steps) would help"
            return 1
        fi
        say "no progress in this life, but in the one before it"
    fi
    if [ "$life" -ge "${PHALANX_RESTARTS:-50}" ]; then
        say "requeued $life times, PHALANX_RESTARTS allows no more. The same sbatch goes on"
        return 1
    fi
    requeue
}

# The place where the life before this one began, as it said itself in this job's output; nothing where that is no file.
place_before() {
    local output=/proc/$$/fd/1
    [ -f "$output" ] && grep -a " $job: start $life on " "$output" | tail -n 1 | sed 's/.* at //'
}

# A cancelled job has left the state RUNNING, and scontrol requeue would bring it back to life. So has one that Slurm
# requeues itself. One that is preempted, in its grace time, or at its time limit is ours to requeue.
ended_by_slurm() {
    local now
    now=$(scontrol show job "$job" 2>/dev/null | grep -oE '(JobState|Reason)=[^ ]*' | head -n 2 | xargs)
    case $now in
        "JobState=RUNNING "* | *Reason=TimeLimit | "") return 1 ;;
    esac
    say "ended by Slurm ($now): not requeued from here"
}

requeue() {
    local answer
    if answer=$(scontrol requeue "$job" 2>&1); then
        say "requeued; it goes on where it stopped"
    else
        say "Slurm refuses to requeue ($answer). The same sbatch goes on"
    fi
    return 75
}
