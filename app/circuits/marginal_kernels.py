"""Loops over amplitudes that add up probabilities, gather amplitudes and collapse a qubit."""

import numpy as np
from numba import njit

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, cache=True, fastmath=_FAST)
def add_marginals(re, im, places, values, table, step, first, last, out):
    """out[outcome of j] += |psi_j|^2 over blocks first..last-1 of table.size amplitudes.

    places, values: of the measured positions above a block, which bit of the index and what it adds to the outcome.
    table: what the low bits add; the same for `step` neighbours. Collective over: none.
    """
    size = table.size
    for block in range(first, last):
        start = block * size
        outcome = 0
        for number in range(places.size):
            if start >> places[number] & 1:
                outcome += values[number]
        a, b = re[start : start + size], im[start : start + size]
        for left in range(0, size, step):
            total = 0.0
            for i in range(left, left + step):
                x, y = np.float64(a[i]), np.float64(b[i])
                total += x * x + y * y
            out[outcome + table[left]] += total


@njit(nogil=True, cache=True, fastmath=_FAST)
def child_sums(re, im, prefixes, spots, free, first, last, out):
    """out[m, g] = sum of |psi_j|^2 over j = prefixes[m] | spots[g] | (a subset of `free`), m in first..last-1.

    A prefix or spot of -1 lies on another rank: it adds nothing. Collective over: none.
    """
    run = (~free) & (free + 1)  # 2^(number of lowest bits of `free` that are ones in a row)
    high = free & ~(run - 1)
    for m in range(first, last):
        for g in range(spots.size):
            total = 0.0
            if prefixes[m] >= 0 and spots[g] >= 0:
                start, subset = prefixes[m] | spots[g], 0
                while True:
                    a, b = re[start + subset : start + subset + run], im[start + subset : start + subset + run]
                    for i in range(run):
                        x, y = np.float64(a[i]), np.float64(b[i])
                        total += x * x + y * y
                    subset = (subset - high) & high
                    if subset == 0:
                        break
            out[m, g] = total


@njit(nogil=True, cache=True)
def gather(re, im, rows, first, mask, out):
    """out[:, row, column] = re and im of psi[rows[row] | e], e the subsets of `mask` in order, from `first` on.

    Collective over: none.
    """
    e = first
    for column in range(out.shape[2]):
        for row in range(rows.size):
            j = rows[row] | e
            out[0, row, column] = re[j]
            out[1, row, column] = im[j]
        e = (e - mask) & mask


@njit(nogil=True, cache=True, fastmath=_FAST)
def add_products_of_rows(left, right, first, last, out):
    """out[a, b] += sum over columns of left[a] conj(right[b]), rows a in first..last-1; (2, rows, columns) float64.

    Collective over: none.
    """
    for a in range(first, last):
        x_re, x_im = left[0, a], left[1, a]
        for b in range(right.shape[1]):
            y_re, y_im = right[0, b], right[1, b]
            real, imag = 0.0, 0.0
            for e in range(x_re.size):
                real += x_re[e] * y_re[e] + x_im[e] * y_im[e]
                imag += x_im[e] * y_re[e] - x_re[e] * y_im[e]
            out[a, b] += complex(real, imag)


@njit(nogil=True, cache=True)
def collapse_(re, im, bit, outcome, scale, first, last):
    """Amplitudes first..last-1: those whose bit is the outcome times scale, the others zero. Collective over: none."""
    for j in range(first, last):
        kept = scale if (j >> bit & 1) == outcome else 0.0
        re[j] = re[j] * kept
        im[j] = im[j] * kept
