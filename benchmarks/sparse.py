"""Where a linear layer with removed connections is faster as a sparse product: sizes x share of zeros x rows.

The layer that evaluation uses (app/networks/sparse.py), made to compute sparse everywhere, beside torch's dense one;
interleaved, the medians of blocks, ratios of the same round. One thread and two, as the product's gain depends on it.

    python -m benchmarks.sparse [--rounds 7] [--threads 1 2] [--sizes 256x256 1024x1024] [--zeros 0.9] [--rows 1 64]
"""

import argparse
import statistics
from collections.abc import Callable
from itertools import product
from time import perf_counter
from unittest.mock import patch

import torch
from torch import nn

from app.networks import sparse
from benchmarks.interleave import Ratio, last_line, ratio, rotated

SIZES = ("128x128", "256x256", "512x512", "1024x1024", "2048x512", "512x2048", "2048x2048")
ZEROS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
ROWS = (1, 4, 16, 64, 256)
BLOCK_S = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="OUTxIN")
    parser.add_argument("--zeros", type=float, nargs="+", default=list(ZEROS))
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    args = parser.parse_args()
    ratios: dict[str, Ratio] = {}
    print("threads   out x in  zeros  rows  dense us  sparse/dense      quartiles  rule")
    for threads, size, zeros, rows in product(args.threads, args.sizes, args.zeros, args.rows):
        torch.set_num_threads(threads)
        found, dense_s, chosen = case(size, zeros, rows, args.rounds)
        ratios[f"{threads} threads, {size}, {zeros:.0%} zeros, {rows} rows"] = found
        print(f"{threads:7} {size:>10} {zeros:6.0%} {rows:5} {row(found, dense_s, chosen)}", flush=True)
    print()
    print(last_line("sparse", ratios, {"torch": torch.__version__}))


def row(found: Ratio, dense_s: float, chosen: bool) -> str:
    """The end of a line of the table: what was found, and what the rule says of it."""
    spread = f"{found.lower:6.2f} - {found.upper:.2f}"
    judged = ("sparse" if chosen else "dense") + ("" if chosen == (found.median < 1) else ", slower")
    return f"{1e6 * dense_s:9.0f} {found.median:13.2f} {spread:>14}  {judged}"


@torch.inference_mode()
def case(size: str, zeros: float, rows: int, rounds: int) -> tuple[Ratio, float, bool]:
    """Sparse over dense, seconds of the dense layer, and what the rule says."""
    torch.manual_seed(5)
    out, into = map(int, size.split("x"))
    dense = nn.Linear(into, out)
    dense.weight[torch.rand(out, into) < zeros] = 0
    layer, inputs = sparse.SparseLinear(dense), torch.randn(rows, into)
    chosen = sparse.pays(layer.weight, layer.zeros, rows)
    calls: dict[str, Callable[[], torch.Tensor]] = {"dense": lambda: dense(inputs), "sparse": lambda: layer(inputs)}
    times: dict[str, list[float]] = {"dense": [], "sparse": []}
    with patch.object(sparse, "pays", lambda *_: True):
        torch.testing.assert_close(calls["sparse"](), calls["dense"](), rtol=1e-4, atol=1e-4)
        for number in range(rounds):
            for name in rotated(list(calls), number):
                times[name].append(block(calls[name]))
    return ratio(times["sparse"], times["dense"], "torch linear"), statistics.median(times["dense"]), chosen


def block(call: Callable[[], torch.Tensor]) -> float:
    """Median seconds of a call, over a block of them."""
    end, found = perf_counter() + BLOCK_S, []
    while perf_counter() < end or len(found) < 3:
        begin = perf_counter()
        call()
        found.append(perf_counter() - begin)
    return statistics.median(found)


if __name__ == "__main__":
    main()
