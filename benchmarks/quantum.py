"""State vectors: Phalanx beside qulacs, Qiskit Aer, PennyLane's lightning.qubit and qsim; also on two ranks.

The circuits stand in benchmarks/ranks/quantum_circuits.py, what is timed in quantum_simulators.py. Every simulator is a
process of its own with a fixed number of threads; they take turns, in an order that rotates; ratios are of the same
round. States and gradients are compared before anything is timed. "ours" plans the circuit each time; "planned" is ours
with a circuit whose schedule is kept from the call before.

    python -m benchmarks.quantum [--repeats 5] [--threads 1,2]
                                 [--cases rand20,rand24,qft24,gradient20,ranks24,memory,first]
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.interleave import Ratio, last_line, ratio, rotated
from benchmarks.quantum_children import Child, Contender, child

CASES = ("rand20", "rand24", "qft24", "gradient20", "ranks24", "memory", "first")
PRECISIONS = ("complex128", "complex64")
PEERS = [("qulacs", "complex128"), ("qsim", "complex64")] + [(s, d) for s in ("aer", "lightning") for d in PRECISIONS]
WITH_GRADIENTS = [("lightning", "complex128"), ("qulacs", "complex128")]
OURS = ("ours", "planned")
TOLERANCE = {"complex128": 1e-9, "complex64": 2e-5}
FIRST = "rand10"
Ratios = dict[str, Ratio]
Seconds = dict[str, list[float]]


class Report:
    """What the last line says."""

    def __init__(self) -> None:
        self.ratios: Ratios = {}
        self.more: dict[str, object] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--cases", default=",".join(CASES), help="also rand16, qft12, gradient10, ranks18 and the like")
    parser.add_argument("--qubits", type=int, default=24, help="of the case memory")
    args = parser.parse_args()
    report = Report()
    for case in args.cases.split(","):
        if case == "memory":
            memory(f"rand{args.qubits}", report)
        elif case == "first":
            first(args.repeats, report)
        elif case.startswith("ranks"):
            ranks(case, args.repeats, report)
        else:
            for threads in map(int, args.threads.split(",")):
                simulations(case, threads, args.repeats, report)
    print()
    print(last_line("quantum", report.ratios, report.more))


def children(stack: ExitStack, contenders: Sequence[Contender]) -> dict[str, Child]:
    """All of them started, by label; ended by the stack."""
    found = {}
    for contender in contenders:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="phalanx-bench-"))
        found[contender.label] = stack.enter_context(child(contender, Path(folder)))
    return found


def simulations(case: str, threads: int, repeats: int, report: Report) -> None:
    """One circuit, or one gradient, with every simulator."""
    gradients = case.startswith("gradient")
    peers = WITH_GRADIENTS if gradients else PEERS
    ours = [(OURS[0], PRECISIONS[0])] if gradients else [(name, dtype) for name in OURS for dtype in PRECISIONS]
    contenders = [Contender(name, dtype, threads) for name, dtype in (*ours, *peers)]
    names = [f"{kind}{case[8:]}" for kind in ("zsum", "ising")] if gradients else [case]
    with ExitStack() as stack:
        present = children(stack, contenders)
        for name in names:
            ways = agreed(present, name, "gradient_values" if gradients else "build")
            times = interleaved(present, name, repeats, "gradient" if gradients else "time")
            title = f"{'gradient ' if gradients else ''}{name}"
            table(f"{title}, {threads} threads" if threads > 1 else f"{title}, 1 thread", times, ways, report)


def agreed(present: dict[str, Child], case: str, what: str) -> dict[str, str]:
    """The way each simulator chose. Ends the benchmark where results differ."""
    ways, results = {}, {}
    for label, one in present.items():
        answer = one.ask(what, case)[0]
        ways[label], results[label] = answer if what == "build" else ("", answer)
    reference = results[next(iter(results))]
    for label, result in results.items():
        tolerance = TOLERANCE["complex64" if label.endswith("c64") else "complex128"]
        if (error := difference(reference, result)) > tolerance:
            raise SystemExit(f"{case}: {label} differs from {next(iter(results))} by {error:.2e}, over {tolerance}")
    return ways


def difference(reference: np.ndarray, result: np.ndarray) -> float:
    """Of the largest component, in units of the reference's norm; the result's global phase does not count."""
    if np.iscomplexobj(reference):
        overlap = np.vdot(result, reference)
        result = result * overlap / abs(overlap)
    return float(np.abs(result - reference).max() / np.linalg.norm(reference))


def interleaved(present: dict[str, Child], case: str, repeats: int, what: str) -> Seconds:
    """Seconds of each round; of ranks, those of the slowest."""
    times: Seconds = {label: [] for label in present}
    for number in range(repeats):
        for label in rotated(list(present), number):
            times[label].append(max(present[label].ask(what, case)))
    return times


def table(title: str, times: Seconds, ways: dict[str, str], report: Report) -> None:
    """Each precision of ours beside every peer of that precision; the last line has the fastest of these."""
    print(f"\n{title}: {len(next(iter(times.values())))} rounds")
    print(f"  {'':18} {'ms':>9}  {'ours c128 / this':>22}  {'ours c64 / this':>22}  way")
    mine = {label.split()[1]: seconds for label, seconds in times.items() if label.startswith("ours")}
    for label, seconds in times.items():
        cells = [" " * 22 if label.startswith(OURS) else shown(ratio(own, seconds, label)) for own in mine.values()]
        cells += [" " * 22] * (2 - len(cells))
        print(f"  {label:18} {1000 * statistics.median(seconds):9.1f}  {'  '.join(cells)}  {ways[label]}", flush=True)
    for precision, own in mine.items():
        peers = {label: s for label, s in times.items() if not label.startswith(OURS) and label.endswith(precision)}
        best = min(peers, key=lambda label: statistics.median(peers[label]))
        report.ratios[f"{title}, {precision}"] = ratio(own, peers[best], f"{best}, the fastest")
    ms = {label: round(1000 * statistics.median(seconds), 2) for label, seconds in times.items()}
    report.more.setdefault("ms", {})[title] = ms  # type: ignore[attr-defined,index]


def shown(one: Ratio) -> str:
    return f"{one.median:6.3f} ({one.lower:.3f}-{one.upper:.3f})".rjust(22)


def ranks(case: str, repeats: int, report: Report) -> None:
    """Two ranks of one thread beside one rank of one thread, all of them ours."""
    name = f"rand{case[5:]}"
    for dtype in PRECISIONS:
        precision = "c64" if dtype == "complex64" else "c128"
        with ExitStack() as stack:
            present = {
                f"{number} {precision}": children(stack, [Contender("ours", dtype, 1, number)])[f"ours {precision}"]
                for number in (1, 2)
            }
            agreed(present, name, "build")
            times = interleaved(present, name, repeats, "time")
            sent = present[f"2 {precision}"].ask("sent", name)
        one, two = times[f"1 {precision}"], times[f"2 {precision}"]
        beside = ratio(two, one, "1 rank x 1 thread")
        report.ratios[f"{name} on 2 ranks x 1 thread, {precision}"] = beside
        report.more.setdefault("sent_and_predicted_bytes", {})[precision] = sent  # type: ignore[attr-defined,index]
        print(f"\n{name} {precision} on 2 ranks x 1 thread: {1000 * statistics.median(two):.1f} ms, on one ", end="")
        print(f"{1000 * statistics.median(one):.1f} ms: {shown(beside).strip()}, x{1 / beside.median:.2f}")
        print("  bytes sent, predicted:", *(f"rank {k} {a:,}, {b:,};" for k, (a, b) in enumerate(sent)), flush=True)


def memory(case: str, report: Report) -> None:
    """Peak growth of a simulation over the state's bytes, each in a process of its own."""
    contenders = [Contender("ours", dtype, 1, number) for dtype in PRECISIONS for number in (0, 2)]
    contenders += [Contender(name, dtype, 1) for name, dtype in PEERS]
    print(f"\nmemory of {case}: growth of the resident set over the bytes of the state, rank by rank")
    found: dict[str, list[float]] = {}
    for contender in contenders:
        with ExitStack() as stack:
            grown = children(stack, [contender])[contender.label].ask("memory", case)
        amplitude = 8 if contender.dtype == "complex64" else 16
        state = (amplitude << int(case[4:])) // max(1, contender.ranks)
        label = contender.label + (f" on {contender.ranks} ranks" if contender.ranks else "")
        found[label] = [round(size / state, 3) for size in grown]
        print(f"  {label:24}", *(f"{size:7.3f}" for size in found[label]), flush=True)
    report.more["memory_over_state"] = found


def first(repeats: int, report: Report) -> None:
    """Seconds from the child's first line to its first amplitudes; the first round fills caches and does not count."""
    contenders = [Contender("ours", dtype, 1) for dtype in PRECISIONS] + [Contender(*peer, 1) for peer in PEERS]
    times: Seconds = {contender.label: [] for contender in contenders}
    by_label = {contender.label: contender for contender in contenders}
    for number in range(-1, repeats):
        for label in rotated(list(by_label), number):
            with ExitStack() as stack:
                seconds = children(stack, [by_label[label]])[label].ask("first", FIRST)[0]
            if number >= 0:
                times[label].append(seconds)
    table(f"first amplitudes of {FIRST}", times, dict.fromkeys(times, ""), report)


if __name__ == "__main__":
    main()
