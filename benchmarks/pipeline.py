"""Time of forward and backward of a batch on 2 stages x 1 thread, in 8 microbatches: ours beside torch's pipelines.

Also beside one rank with the whole batch at once, and beside the bubble bound: the time that the schedule would take if
each stage worked as fast as it does alone, and messages took no time. Every contender is a job of its own, and only one
runs at a time (see benchmarks/contenders.py); ratios are of the same round.

    python -m benchmarks.pipeline [--rounds 16] [--cases MLP ResNet] [--contenders torch-1f1b 1f1b whole] [--memory]
"""

import argparse
import io
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import nn

from app.plan.pipelines.cut import cut
from app.plan.pipelines.schedules import make_schedule
from app.plan.pipelines.simulation import ChunkTimes, simulate
from benchmarks.contenders import RANKS, Rank, Times, ask, jobs, measure
from benchmarks.interleave import Ratio, last_line, ratio
from benchmarks.ranks import pipeline_step
from benchmarks.ranks.pipeline_step import CASES, CONTENDERS, MEMORY, MICROBATCHES, OURS, STAGE, STEP, Case, Cut, Order

PEERS = ("torch-gpipe", "torch-1f1b")
STEPS = 2  # timed ones in a block
GOAL = 0.88  # of the better torch schedule; and below 1 of one rank
COUNTS = (8, 16, 32)  # microbatches whose memory is measured
# Large tensors go back to the system when they are freed, so that the resident set is what is in use.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MODULE = "benchmarks.ranks.pipeline_step"
Bounds = dict[str, dict[str, list[float]]]  # by case and schedule: seconds of each round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help="NAME or NAME@VARIABLE=VALUE")
    parser.add_argument("--memory", action="store_true", help="measure peak activation memory instead of time")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # leave no stopped processes behind
    torch.set_num_threads(1)
    cuts = {case: balanced(CASES[case]) for case in args.cases}
    for case, by_schedule in cuts.items():
        print(f"{case}: the first of each chunk's layers:", ", ".join(f"{k} {v}" for k, v in by_schedule.items()))
    (memory if args.memory else speed)(args, cuts)


def balanced(case: Case) -> dict[str, Cut]:
    """The layers at which further chunks begin, by schedule; by the time that each layer takes."""
    network, (inputs, _) = pipeline_step.build(case), pipeline_step.data(case, 1)
    costs = []
    for layer in network:
        costs.append(layer_time(layer, inputs))
        inputs = layer(inputs).detach().requires_grad_()
    one, two = (tuple(piece.start for piece in cut(costs, parts, stages=RANKS)[1:]) for parts in (RANKS, 2 * RANKS))
    return {name: two if name == "interleaved" else one for name in CONTENDERS}


def layer_time(layer: nn.Module, inputs: torch.Tensor, repeats: int = 9) -> float:
    """Seconds of a microbatch forward and backward, of the processor, so that nothing else on the machine counts."""
    seconds = []
    for _ in range(repeats):
        begin = time.thread_time()
        outputs = layer(inputs)
        if outputs.requires_grad:
            outputs.sum().backward()
        seconds.append(time.thread_time() - begin)
    return min(seconds)


def speed(args: argparse.Namespace, cuts: Mapping[str, Mapping[str, Cut]]) -> None:
    """Blocks of steps in turns, and each stage alone once a round."""
    bounds: Bounds = {case: {name: [] for name in OURS} for case in args.cases}

    def block(pair: list[Rank], case: str) -> float:
        name = next(name for name, one in ranks.items() if one is pair)
        where = cuts[case][name.partition("@")[0]]
        if name in OURS:
            times = [ask([rank], Order(STAGE, case, where, MICROBATCHES))[0] for rank in pair]
            bounds[case][name].append(bound(name, {**times[0], **times[1]}))
        answers = ask(pair, Order(STEP, case, where, STEPS))
        return statistics.fmean(max(pair) for pair in zip(*answers, strict=True))

    with (
        tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder,
        jobs(args.contenders, Path(folder), MODULE) as ranks,
    ):
        times = measure(ranks, args.cases, args.rounds, block)
    report(times, {case: {name: values[1:] for name, values in row.items()} for case, row in bounds.items()})


def bound(name: str, times: Mapping[int, ChunkTimes]) -> float:
    """Seconds of the schedule played without any loss."""
    schedule = make_schedule(name, stages=RANKS, microbatches=MICROBATCHES, chunks=len(times) // RANKS)
    return simulate(schedule, [times[number] for number in sorted(times)]).seconds


def report(times: Times, bounds: Bounds) -> None:
    """The table, the goals, and the last line. Only what was measured."""
    ratios: dict[str, Ratio] = {}
    more: dict[str, dict[str, float]] = {"over_one_rank": {}, "over_bound": {}}
    for case, by_name in times.items():
        present = [name for name in PEERS if name in by_name]
        peer = min(present, key=lambda name: statistics.median(by_name[name]), default=None)
        print(f"\n{case}: {len(next(iter(by_name.values())))} rounds; peer: {peer}, the faster of torch's")
        print(f"  {'':12} {'ms':>7} {'over peer':>20} {'over one rank':>20} {'over bound':>20}")
        for name, seconds in by_name.items():
            beside = ratio(seconds, by_name[peer], f"torch.distributed.pipelining gloo ({peer})") if peer else None
            alone = ratio(seconds, by_name["whole"], "one rank") if "whole" in by_name else None
            least = ratio(seconds, bounds[case][name], "bound") if bounds[case].get(name) else None
            print(f"  {name:12} {1000 * statistics.median(seconds):7.1f}", *map(shown, (beside, alone, least)))
            if name in OURS and beside:
                ratios[f"{case} {name}"] = beside
            if name in OURS:
                found = {"over_one_rank": alone, "over_bound": least}
                for what, one in found.items():
                    more[what] |= {f"{case} {name}": round(one.median, 4)} if one else {}
        print(f"  goals        the better of ours at most {GOAL} of the peer, and faster than one rank")
    print()
    print(last_line("pipeline", ratios, {**more, "ranks": RANKS, "threads": 1, "microbatches": MICROBATCHES}))


def shown(one: Ratio | None) -> str:
    return f"{one.median:6.3f} {one.lower:.3f}-{one.upper:.3f}".rjust(20) if one else " " * 20


def memory(args: argparse.Namespace, cuts: Mapping[str, Mapping[str, Cut]]) -> None:
    """Growth of the first stage's resident set, each number in a process of its own."""
    names = [name for name in args.contenders if name != "whole"]
    grown: dict[str, dict[str, list[float]]] = {}
    for case in args.cases:
        print(f"\n{case}: peak activation memory of the first stage, MiB, by microbatches of the batch")
        print(f"  {'':12}", *(f"{count:8}" for count in COUNTS), flush=True)
        for name in names:
            row = [needed(name, case, cuts[case][name], count) / 2**20 for count in COUNTS]
            grown.setdefault(case, {})[name] = [round(number, 1) for number in row]
            print(f"  {name:12}", *(f"{number:8.1f}" for number in row), flush=True)
    print()
    print(last_line("pipeline memory", {}, {"mib": grown, "microbatches": COUNTS, "ranks": RANKS}))


def needed(name: str, case: str, cut: Cut, count: int) -> int:
    """Bytes, measured by a job of its own."""
    with (
        redirect_stdout(io.StringIO()),  # who it is stands in the table
        tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder,
        jobs([name], Path(folder), MODULE, {**os.environ, **EXACT}) as ranks,
    ):
        return ask(ranks[name], Order(MEMORY, case, cut, count))[0]


if __name__ == "__main__":
    main()
