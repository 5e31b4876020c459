"""What a network costs, told beside what it was before."""

import math

import pytest

from app.report.appraisal import Appraisal, lines, milliseconds

TEACHER = Appraisal(123_456, 123_456, 500_000, 2_500_000, 0.0012, 0.004, 16, 4000.0, math.nan, 0.1, 0.97)
PRUNED = Appraisal(30_000, 30_000, 120_000, 600_000, 0.001, 0.001, 16, 16000.0, math.nan, 0.1, 0.9612)


def test_one_network():
    told = lines(None, TEACHER)
    assert told[0] == "parameters             123,456"
    assert told[2] == "operations a sample      2.5 M"
    assert told[3] == "ms for 1 sample           1.20"
    assert "joules" not in "".join(told)
    assert {len(line) for line in told} == {len(told[0])}


def test_before_and_after_in_plain_words():
    told = dict(line.split("  ", 1) for line in lines(TEACHER, PRUNED))
    assert told["parameters"].strip() == "123,456 ->    30,000  (x4.12 fewer)"
    assert told["stored"].endswith("(x4.17 smaller)")
    assert told["ms for 16 samples"].endswith("(x4 faster)")
    assert told["samples/s"].endswith("(x4 more)")
    assert told["validation loss"].endswith("(as before)")
    assert told["validation accuracy"].endswith("0.9700 ->    0.9612  (-0.0088)")


def test_removed_connections_have_a_line():
    thin = PRUNED._replace(parameters=123_456, nonzero=12_345)
    assert not any("not 0" in line for line in lines(TEACHER, PRUNED))
    assert next(line for line in lines(TEACHER, thin) if "of them not 0" in line).endswith("(x10 fewer)")


def test_times_of_other_batches_are_not_compared():
    other = PRUNED._replace(batch_n=32)
    assert not any("samples" in line for line in lines(TEACHER, other))
    assert any("ms for 32 samples" in line for line in lines(None, other))


def test_what_was_not_measured_is_left_out():
    bare = PRUNED._replace(latency_1_s=math.nan, latency_n_s=math.nan, samples_per_s=math.nan, accuracy=math.nan)
    assert [line.split("  ")[0] for line in lines(TEACHER, bare)] == [
        "parameters",
        "stored",
        "operations a sample",
        "validation loss",
    ]


def test_nothing_is_divided_by_nothing():
    none = PRUNED._replace(operations=0)
    assert any(line.endswith("(as before)") for line in lines(none, none) if "operations" in line)
    assert any(line.endswith("(-)") for line in lines(TEACHER, none) if "operations" in line)


def test_r2_is_called_so():
    assert any("validation r2" in line for line in lines(None, TEACHER, "r2"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0000123, "0.0123"), (0.0005, "0.500"), (0.0123, "12.3"), (0.1234, "123"), (1.5, "1,500")]
)
def test_milliseconds(seconds, text):
    assert milliseconds(seconds) == text
