"""Blocks: no chunk undone many times, nothing larger than allowed but a single chunk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data.blocks import Blocks, Layout, block_rows, undone_times

MIB = 2**20


@pytest.mark.parametrize(
    ("inputs", "targets", "limit", "rows"),
    [
        (Layout(64, 3072, True), Layout(0, 8, False), 8 * MIB, 128),  # two chunks, so that a call is worth its cost
        (Layout(16, 65536, True), Layout(0, 8, False), 8 * MIB, 16),
        (Layout(64, 3072, True), Layout(1024, 8, True), 8 * MIB, 1024),  # both in whole chunks
        (Layout(48, 3072, True), Layout(64, 8, True), 8 * MIB, 192),  # least common multiple
        (Layout(64, 3072, True), Layout(1001, 8, True), 8 * MIB, 1024),  # targets at most twice
        (Layout(64, 3072, True), Layout(12500, 8, True), MIB, 320),  # targets too large for the limit
        (Layout(0, 3072, False), Layout(500, 8, True), 8 * MIB, 500),
        (Layout(0, 3072, False), None, 8 * MIB, 341),  # about 1 MiB
        (Layout(0, 3072, False), None, 100_000, 32),
        (Layout(4096, 3072, False), None, MIB, 341),  # part of an uncompressed chunk costs its part
        (Layout(4096, 3072, True), None, MIB, 4096),  # a compressed one does not
        (Layout(1, 3072, True), None, 8 * MIB, 86),
        (Layout(1, 10 * MIB, True), None, MIB, 1),
    ],
)
def test_rows_of_a_block(inputs: Layout, targets: Layout | None, limit: int, rows: int) -> None:
    assert block_rows(inputs, targets, limit, 2**40) == rows


chunked = st.builds(Layout, st.integers(0, 300), st.integers(1, 10_000), st.booleans()).map(
    lambda layout: layout._replace(whole=layout.whole and layout.chunk_rows > 0)
)


@given(chunked, st.none() | chunked, st.integers(1, 4 * MIB), st.integers(1, 2**40))
def test_inputs_are_never_undone_twice_and_the_limit_holds(
    inputs: Layout, targets: Layout | None, limit: int, set_bytes: int
) -> None:
    rows = block_rows(inputs, targets, limit, set_bytes)
    each = inputs.row_bytes + (targets.row_bytes if targets else 0)
    if inputs.whole:
        assert rows % inputs.chunk_rows == 0
    assert rows * each <= max(limit, (inputs.chunk_rows if inputs.whole else 1) * each)
    if targets and targets.whole and targets.chunk_rows + (inputs.chunk_rows or 1) <= limit // each:
        assert undone_times(inputs, targets, rows) <= 2 or not inputs.whole


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 70)), min_size=1, max_size=6))
def test_blocks_cover_every_sample_once_and_do_not_cross_files(files: list[tuple[int, int]]) -> None:
    blocks = Blocks(tuple(n for n, _ in files), tuple(k for _, k in files))
    starts, stops = blocks.bounds(np.arange(blocks.count))
    covered = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    np.testing.assert_array_equal(covered, np.arange(sum(blocks.lengths)))
    assert (stops - starts).max() == blocks.most_rows
    ends = np.cumsum(blocks.lengths)
    assert (np.searchsorted(ends, starts, side="right") == np.searchsorted(ends, stops - 1, side="right")).all()
    np.testing.assert_array_equal(blocks.edges(), np.append(starts, len(covered)))
