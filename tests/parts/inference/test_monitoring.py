"""What a user is told: drift where there is some and never else, over many seeds; latency, confidence, classes."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from app.data.features import input_features
from app.data.profile import profile_of
from app.data.transform import Transform
from app.errors import ArtifactError
from app.inference.latencies import BUCKETS, bucket, percentile_s
from app.inference.monitoring import Findings, Watch
from app.inference.references import Reference, output_features, output_values
from app.inputfile.using import Monitor

SEEDS = range(20)
DIGITS = load_digits().data.astype(np.float32)
TIGHT = Monitor(psi=1e-9, ks=1e-9)  # all that is left is what chance gives


def reference_of(
    inputs: np.ndarray, outputs: np.ndarray | None = None, classification: bool = True, part: str = "validation"
) -> Reference:
    """All of the inputs counted, edges from the first 4096."""
    features = input_features(inputs.shape[1:], Transform(), 1024)
    edges = profile_of(features, features.values(inputs[:4096], 0, 10**9), 4096)
    profile = edges.with_counts(edges.count(features.values(inputs, 0, 10**9)), len(inputs))
    found = {}
    if outputs is not None:
        of = output_features(classification, outputs.shape[-1])
        values = output_values(of, outputs)
        found = {name: profile_of(one, values[name], len(outputs)) for name, one in of.items()}
    return Reference(profile, found, part)


def watched(
    reference: Reference | None,
    inputs: np.ndarray,
    outputs: np.ndarray | None = None,
    table: Monitor | None = None,
    classification: bool = True,
    seconds: float = 0.01,
    **merging: Any,
) -> Findings:
    """In batches of 96, divided among two pieces."""
    table = table or Monitor()
    outputs = np.zeros((len(inputs), 2), np.float32) if outputs is None else outputs
    pieces = [Watch(table, reference, classification, len(inputs)) for _ in range(2)]
    for number, at in enumerate(range(0, len(inputs), 96)):
        pieces[number % 2].batch(inputs[at : at + 96], outputs[at : at + 96], seconds)
    return Watch.merged([piece.sums() for piece in pieces], 2.0, table, reference, **merging)


def drawn(seed: int, samples: int, features: int = 32) -> np.ndarray:
    """Normal numbers, and of other kinds: zeros and ones, few whole numbers, half zeros, a constant, heavy tails."""
    draw = np.random.default_rng(seed)
    found = draw.normal(3, 2, (samples, features)).astype(np.float32)
    found[:, 0] = draw.integers(0, 2, samples)
    found[:, 1] = draw.poisson(4, samples)
    found[:, 2] = np.maximum(found[:, 2], 3)
    found[:, 3] = 7
    found[:, 4] = draw.standard_cauchy(samples)
    found[:, 5] = draw.random(samples) < 0.003
    return found


def divided_digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(DIGITS))
    return DIGITS[order[:1200]], DIGITS[order[1200:]]


@pytest.mark.parametrize("seed", SEEDS)
def test_real_images_that_have_not_shifted_give_no_warning(seed):
    old, new = divided_digits(seed)
    for table in (Monitor(), TIGHT):
        assert watched(reference_of(old), new, table=table).warnings == ()
        assert watched(reference_of(old), new[:200], table=table).warnings == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_real_images_a_tenth_of_whose_pixels_have_shifted_give_one(seed):
    old, new = divided_digits(seed)
    spread = old.std(axis=0)
    shifted = np.random.default_rng(seed).choice(np.flatnonzero(spread > 0), 6, replace=False)
    new[:, shifted] += 0.5 * spread[shifted]
    found = watched(reference_of(old), new[:500])
    assert len(found.warnings) == 1
    assert set(np.flatnonzero(found.tree["drift"]["inputs"]["drifted"])) <= set(shifted)
    assert found.drifted >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_that_have_not_shifted_give_no_warning(seed):
    for samples in (200, 3000):
        reference = reference_of(drawn(seed, 2500))
        for table in (Monitor(), TIGHT):
            assert watched(reference, drawn(seed + 1000, samples), table=table).warnings == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_a_tenth_of_which_have_shifted_give_one(seed):
    reference, new = reference_of(drawn(seed, 2500)), drawn(seed + 1000, 500)
    new[:, 6:9] += 1.0  # half a deviation
    found = watched(reference, new)
    assert len(found.warnings) == 1
    assert set(np.flatnonzero(found.tree["drift"]["inputs"]["drifted"])) <= {6, 7, 8}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_hundred_thousand_samples_without_a_shift_give_no_warning(seed):
    new = drawn(seed + 1000, 100_000, 6)
    for table in (Monitor(), TIGHT):
        assert watched(reference_of(drawn(seed, 20_000, 6)), new, table=table).warnings == ()


def test_of_a_shift_the_worst_inputs_are_named_with_what_to_try():
    new = drawn(1000, 600)
    new[:, 7:11] += np.array([9.0, 2.0, 8.0, 7.0])
    found = watched(reference_of(drawn(0, 2500)), new)
    assert found.drifted == 4
    (warning,) = found.warnings
    assert warning.startswith(
        "drift: 4 of 32 inputs differ from what the network was trained on (input 'number 7': psi"
    )
    assert "'number 9'" in warning
    assert "'number 10'" in warning
    assert "'number 8'" not in warning
    assert "What to try:" in warning


def test_what_was_constant_and_is_no_longer_has_drifted():
    new = drawn(1000, 600)
    new[:90, 3] = 8
    found = watched(reference_of(drawn(0, 2500)), new).tree["drift"]["inputs"]
    assert found["ks"][3] == pytest.approx(0.15)
    assert found["drifted"].tolist() == [0, 0, 0, 1] + [0] * 28


def test_a_channel_that_is_darker_has_drifted():
    draw = np.random.default_rng(0)
    old, new = (draw.integers(0, 256, (n, 3, 12, 12), dtype=np.uint8) for n in (300, 300))
    assert watched(reference_of(old), new).warnings == ()
    new[:, 2] //= 2
    found = watched(reference_of(old), new).tree["drift"]["inputs"]
    assert found["feature"] == ["channel 0", "channel 1", "channel 2"]
    assert found["drifted"].tolist() == [0, 0, 1]


def test_few_samples_are_a_matter_of_chance():
    new = drawn(1000, 8)
    new[:, 6:] += 1
    assert watched(reference_of(drawn(0, 2500)), new).warnings == ()


def test_no_more_inputs_than_asked_are_compared():
    found = watched(reference_of(drawn(0, 2500)), drawn(1000, 300), table=Monitor(features=4))
    assert found.tree["drift"]["inputs"]["feature"] == ["number 0", "number 8", "number 16", "number 24"]


def logits(seed: int, samples: int, sure: float, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sure, (samples, classes)).astype(np.float32)


def test_outputs_that_have_shifted_are_told():
    reference = reference_of(drawn(0, 2500), logits(0, 2000, 5.0))
    assert watched(reference, drawn(9, 800), logits(1, 800, 5.0)).warnings == ()
    one_sided = logits(1, 800, 5.0) + np.array([12, 0, 0, 0], np.float32)
    found = watched(reference, drawn(9, 800), one_sided)
    assert found.tree["drift"]["outputs"]["feature"] == ["class", "confidence"]
    assert found.tree["drift"]["outputs"]["drifted"].tolist() == [1, 0]  # surer it may be
    found = watched(reference, drawn(9, 800), logits(1, 800, 1.0))
    assert found.tree["drift"]["outputs"]["drifted"].tolist() == [0, 1]
    assert "1 of 2 outputs differ" in found.warnings[0]


def test_outputs_known_of_training_samples_alone_are_no_reason_to_warn():
    reference = reference_of(drawn(0, 2500), logits(0, 2000, 5.0), part="train")
    found = watched(reference, drawn(9, 800), logits(1, 800, 1.0))
    assert found.tree["drift"]["outputs"]["ks"][1] > 0.3
    assert found.drifted == 0


def test_values_of_a_regression_are_compared_each():
    outputs = drawn(3, 2500, 8)
    reference = reference_of(drawn(0, 2500), outputs, classification=False)
    new = drawn(4, 700, 8)
    new[:, 7] -= 2
    found = watched(reference, drawn(9, 700), new, classification=False)
    assert found.tree["drift"]["outputs"]["drifted"].tolist() == [0] * 7 + [1]
    assert not found.tree.keys() & {"classes", "confidence"}


def test_classes_and_confidence_are_counted():
    outputs = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32))
    found = watched(None, np.zeros((3, 2)), outputs, class_names=("cat", "dog")).tree
    assert found["classes"]["names"] == ["cat", "dog"]
    assert found["classes"]["counts"].tolist() == [1, 2]
    assert found["confidence"]["mean"] == pytest.approx(0.8)
    assert found["confidence"]["counts"].sum() == 3
    assert "drift" not in found
    assert found["new_samples"] == 3
    assert found["samples_per_s"] == 1.5


def test_positions_count_each_as_an_output():
    found = watched(None, np.zeros((3, 5)), np.zeros((3, 5, 4), np.float32)).tree
    assert found["classes"]["counts"].tolist() == [15, 0, 0, 0]
    assert found["new_samples"] == 3


def test_limits_of_latency_and_confidence_give_a_sentence_each():
    table = Monitor(confidence=0.6, latency=5)
    found = watched(None, np.zeros((30, 2)), seconds=0.008, table=table)
    assert [warning.split(":")[0] for warning in found.warnings] == ["confidence", "latency"]
    assert "is 0.500, and the monitor table wants at least 0.6" in found.warnings[0]
    assert "up to 7.91 ms, and the monitor table allows 5 ms" in found.warnings[1]
    assert watched(None, np.zeros((30, 2)), seconds=0.003, table=Monitor(confidence=0.4, latency=5)).warnings == ()


def test_percentiles_are_those_of_numpy_to_a_bucket():
    seconds = np.random.default_rng(0).lognormal(-6, 1, 5000)
    counts = np.bincount([bucket(one) for one in seconds], minlength=BUCKETS)
    for share in (0.5, 0.9, 0.99):
        found = percentile_s(counts, share, seconds.max())
        assert found == pytest.approx(np.quantile(seconds, share), rel=0.03)
    assert percentile_s(counts, 1.0, seconds.max()) <= seconds.max()
    assert [bucket(0.0), bucket(1e9)] == [0, BUCKETS - 1]


def test_the_longest_batch_is_exact():
    watch = Watch(Monitor(), None, True)
    for seconds in (0.1, 0.732, 0.2):
        watch.batch(np.zeros((4, 2)), np.zeros((4, 2), np.float32), seconds)
    found = Watch.merged([watch.sums()], 1.0, Monitor(), None).tree["latency_ms"]
    assert found["max"] == pytest.approx(732)
    assert found["p50"] == pytest.approx(200, rel=0.02)


def test_how_samples_are_divided_into_pieces_does_not_matter():
    reference, table = reference_of(drawn(0, 2500), logits(0, 500, 1.0)), Monitor()
    inputs, outputs = drawn(5, 960), logits(1, 960, 1.0)
    one = Watch(table, reference, True)
    several = [Watch(table, reference, True) for _ in range(5)]
    for number, at in enumerate(range(0, 960, 96)):
        for watch in (one, several[number // 2]):
            watch.batch(inputs[at : at + 96], outputs[at : at + 96], 0.5)
    whole, parts = (Watch.merged([w.sums() for w in found], 1.0, table, reference) for found in ([one], several))
    assert whole.warnings == parts.warnings
    for side in ("inputs", "outputs"):
        np.testing.assert_array_equal(whole.tree["drift"][side]["psi"], parts.tree["drift"][side]["psi"])
        np.testing.assert_array_equal(whole.tree["drift"][side]["ks"], parts.tree["drift"][side]["ks"])


def test_arrays_may_be_used_again_after_a_batch():
    watch = Watch(Monitor(), reference_of(drawn(0, 2500)), True)
    rows, outputs = drawn(1, 96), logits(1, 96, 1.0)
    watch.batch(rows, outputs, 0.1)
    rows[:], outputs[:] = 1e9, -1e9
    found = Watch.merged([watch.sums()], 1.0, Monitor(), reference_of(drawn(0, 2500)))
    assert found.warnings == ()


def test_of_very_many_samples_every_nth_is_looked_at():
    reference = reference_of(drawn(0, 2500))
    watch = Watch(Monitor(), reference, True, samples=16_384 * 8)
    watch.batch(drawn(1, 96), logits(1, 96, 1.0), 0.1)
    assert int(watch.sums()["inputs_samples"][0]) == 12
    assert watch.sums()["inputs"].sum(axis=1).tolist() == [12] * 32
    assert int(watch.sums()["samples"][0]) == 96


def test_no_batches_are_no_findings():
    for sums in ([], [Watch(Monitor(), reference_of(drawn(0, 100)), True).sums()]):
        found = Watch.merged(sums, 0.0, Monitor(confidence=1, latency=1), reference_of(drawn(0, 100)))
        assert found.warnings == ()
        assert found.tree["new_samples"] == 0


def test_a_reference_of_other_samples_is_refused():
    watch = Watch(Monitor(), reference_of(drawn(0, 100)), True)
    with pytest.raises(ArtifactError, match="of samples of 32 numbers, but these have 31"):
        watch.batch(np.zeros((4, 31)), np.zeros((4, 2), np.float32), 0.1)
