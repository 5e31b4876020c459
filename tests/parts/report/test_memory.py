import numpy as np

from app.report.memory import peak_bytes, peak_line


def test_the_peak_grows_with_what_is_used_and_never_falls() -> None:
    before = peak_bytes()
    held = np.ones(before + (64 << 20), np.uint8)
    grown = peak_bytes()
    assert grown >= before + (64 << 20)
    del held
    assert peak_bytes() >= grown


def test_the_line_names_the_rank_that_used_most() -> None:
    line = peak_line([100 << 20, 300 << 20, 200 << 20], ["a", "b", "c"])
    assert line == "peak memory of a rank: 100 MiB at least, 300 MiB at most (rank 1 on b)"
