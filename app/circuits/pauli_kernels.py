"""Loops over amplitudes for Pauli strings that share an x mask.

A string is P|j> = i^y (-1)^|j & z| |j ^ x> with y its number of Ys, so all strings of one x mask together multiply
amplitude j by w(j) = E(j) + i O(j) before it goes to j ^ x. In a block of 2^b amplitudes both are Walsh-Hadamard
transforms of the coefficients by the low bits of z: b additions an amplitude, however many strings there are.
"""

import numpy as np
from numba import njit

BLOCK_BITS = 10
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, cache=True)
def _odd(word: int) -> bool:
    """Whether a word has an odd number of ones."""
    for shift in (32, 16, 8, 4, 2, 1):
        word ^= word >> shift
    return (word & 1) == 1


@njit(nogil=True, cache=True)
def _signs(zs, start, signs):
    """The signs of the strings at a block; whether they differ from those given."""
    changed = False
    for term in range(zs.size):
        sign = -1.0 if _odd(zs[term] & start) else 1.0
        changed |= signs[term] != sign
        signs[term] = sign
    return changed


@njit(nogil=True, cache=True, fastmath=_FAST)
def _weigh(zs, coefficients, signs, weights):
    """Walsh-Hadamard transform of the coefficients by the low bits of z, in the order of the amplitudes."""
    weights[:] = 0.0
    for term in range(zs.size):
        weights[zs[term] & (weights.size - 1)] += signs[term] * coefficients[term]
    step = 1
    while step < 8 and step < weights.size:
        for left in range(0, weights.size, 2 * step):
            for i in range(left, left + step):
                a, b = weights[i], weights[i + step]
                weights[i] = a + b
                weights[i + step] = a - b
        step *= 2
    while step < weights.size:
        for left in range(0, weights.size, 2 * step):
            low, high = weights[left : left + step], weights[left + step : left + 2 * step]
            for i in range(step):
                a, b = low[i], high[i]
                low[i] = a + b
                high[i] = a - b
        step *= 2


@njit(nogil=True, cache=True, fastmath=_FAST)
def _weights(zs, start, even, odd, signs, evens, odds):
    """The weights of a block's amplitudes, where its signs are not those of the block before."""
    if not _signs(zs, start, signs):
        return
    if np.any(even != 0):
        _weigh(zs, even, signs, evens)
    if np.any(odd != 0):
        _weigh(zs, odd, signs, odds)


@njit(nogil=True, cache=True)
def _run(x_low: int, size: int) -> int:
    """How many neighbours stay neighbours when an index changes by x_low."""
    return size if x_low == 0 else x_low & -x_low


@njit(nogil=True, cache=True, fastmath=_FAST)
def pair_sums(re, im, other_re, other_im, x, base, pivot, zs, even, odd, bits, first, last, sums):
    """sums[block] = Re sum_j conj(other[j ^ x]) w(j) psi[j] over blocks first..last-1 of 2^bits, float64.

    base: the index of re[0] in the whole state. Blocks that have the bit `pivot` are left out. Collective over: none.
    """
    size = 1 << bits
    x_low, step = x & (size - 1), _run(x & (size - 1), size)
    evens, odds, signs = np.zeros(size), np.zeros(size), np.zeros(zs.size)
    for block in range(first, last):
        start = block << bits
        if start & pivot:
            continue
        _weights(zs, base + start, even, odd, signs, evens, odds)
        mine_re, mine_im = re[start : start + size], im[start : start + size]
        there = start ^ (x & ~(size - 1))
        their_re, their_im = other_re[there : there + size], other_im[there : there + size]
        total = 0.0
        for left in range(0, size, step):
            right = left ^ x_low
            for i in range(step):
                a, b = np.float64(mine_re[left + i]), np.float64(mine_im[left + i])
                c, d = np.float64(their_re[right + i]), np.float64(their_im[right + i])
                total += evens[left + i] * (a * c + b * d) - odds[left + i] * (c * b - d * a)
        sums[block] = total


@njit(nogil=True, cache=True, fastmath=_FAST)
def add_products(re, im, out_re, out_im, x, base, zs, even, odd, bits, first, last):
    """out[j ^ x] += w(j) psi[j] over blocks first..last-1 of 2^bits. base: the index of re[0] in the whole state.

    Collective over: none.
    """
    size = 1 << bits
    x_low, step = x & (size - 1), _run(x & (size - 1), size)
    evens, odds, signs = np.zeros(size), np.zeros(size), np.zeros(zs.size)
    for block in range(first, last):
        start = block << bits
        _weights(zs, base + start, even, odd, signs, evens, odds)
        mine_re, mine_im = re[start : start + size], im[start : start + size]
        there = start ^ (x & ~(size - 1))
        their_re, their_im = out_re[there : there + size], out_im[there : there + size]
        for left in range(0, size, step):
            right = left ^ x_low
            for i in range(step):
                a, b = mine_re[left + i], mine_im[left + i]
                their_re[right + i] += evens[left + i] * a - odds[left + i] * b
                their_im[right + i] += evens[left + i] * b + odds[left + i] * a
