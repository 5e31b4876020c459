#!/usr/bin/env bash
# Runs every test, whatever fails on the way:  tests/run.sh VENV
# The last line, alone: "N passed, N failed, N skipped" over all parts. The exit code is 1 when anything failed.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
bin=$(cd "$1" && pwd)/bin || exit 1
out=$(mktemp -d) # for each part: its exit code, its junit file, and what ranks above 0 printed
trap 'rm -rf "$out"' EXIT
export bin out

# part NAME COMMAND...: runs it, keeps its exit code, says how long it took
part() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    echo "$status" >"$out/$name.status"
    printf -- '-- %s: exit code %s after %s s\n' "$name" "$status" $((SECONDS - begin))
}

# alone SECONDS FOLDER: without mpirun. A folder that does not exist is passed over; one without tests fails.
alone() {
    [ -d "tests/$2" ] || return 0
    part "$2" timeout --kill-after=30 "$1" "$bin/pytest" "tests/$2" --junitxml="$out/$2.xml"
}

# What each rank runs. Rank 0 prints and counts; the others are heard through mpirun's exit code.
# --timeout-method=thread: a rank that waits inside MPI for ever never sees a signal.
one_rank() {
    local name=$1 rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-0}}}
    local pytest=("$bin/pytest" tests/ranks --with-mpi -p no:cacheprovider --timeout=120 --timeout-method=thread)
    [ "$rank" -ne 0 ] || exec "${pytest[@]}" --junitxml="$out/$name.xml"
    exec "${pytest[@]}" >"$out/$name.rank$rank.log" 2>&1
}
export -f one_rank

# launch SECONDS RANKS: tests/ranks under mpirun; where it fails, the end of what the silent ranks said.
launch() {
    local name=ranks-$2 flags log status=0
    flags=$(install/mpirun-flags.sh "$bin/mpirun" "$2")
    # shellcheck disable=SC2086 # the flags are several words
    timeout --kill-after=30 "$1" "$bin/mpirun" -np "$2" $flags bash -c "one_rank $name" || status=$?
    [ "$status" -eq 0 ] && return
    for log in "$out/$name".rank*.log; do
        [ -e "$log" ] && printf -- '-- end of %s\n' "$(basename "$log")" && tail -n 40 "$log"
    done
    return "$status"
}

# The junit files are added up. A part that failed without a failed test (a time limit, a crash, no tests at all,
# a test that failed on another rank) counts as one failure; one without a junit file (lint-imports) as one test.
summary() {
    "$bin/python" - "$out" <<'PYTHON'
import pathlib, sys
import xml.etree.ElementTree as ET

passed = failed = skipped = 0
broken = []
for status in sorted(pathlib.Path(sys.argv[1]).glob("*.status")):
    code = int(status.read_text())
    junit = status.with_suffix(".xml")
    here = 0
    if junit.exists():
        try:
            root = ET.parse(junit).getroot()
        except ET.ParseError:  # killed while it was being written
            root = ET.Element("none")
        for suite in root.iter("testsuite"):
            tests, failures, errors, skips = (int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped"))
            here += failures + errors
            passed += tests - failures - errors - skips
            skipped += skips
    elif code == 0:
        passed += 1
    if code:
        here = max(here, 1)
        broken.append(f"{status.stem} (exit code {code})")
    failed += here
if broken:
    print("failed parts:", ", ".join(broken))
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0)
PYTHON
}

part imports "$bin/lint-imports"
# Jobs mostly wait for Slurm: beside them there is time for tests of one process. What they print comes after those.
alone 1200 slurm >"$out/slurm.log" 2>&1 &
slurm=$!
alone 900 parts
alone 900 refusals
wait "$slurm"
cat "$out/slurm.log"
if [ -d tests/ranks ]; then
    for ranks in 1 2 3 4; do part "ranks-$ranks" launch 600 "$ranks"; done
fi
alone 2700 runs
alone 1200 failures
alone 1200 gpu # skipped, with the reason, where torch sees no accelerator
echo
summary
