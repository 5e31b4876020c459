"""Data files that are missing, damaged, or not what the input file says: found before the first step."""

import h5py
import numpy as np
import pytest

N = 240


def images(**changes) -> np.ndarray:
    """Good images but for single values, as at_17=nan."""
    values = np.zeros((N, 4, 4), np.float32)
    for place, value in changes.items():
        values[int(place.removeprefix("at_")), 1, 2] = value
    return values


def labels(**changes) -> np.ndarray:
    values = np.arange(N) % 3
    for place, value in changes.items():
        values[int(place.removeprefix("at_"))] = value
    return values


BAD_DATASETS = {
    "missing dataset": ({"images": None, "image": images()}, "no dataset 'images'", "did you mean 'image'"),
    "missing dataset, nothing like it": ({"images": None}, "no dataset 'images'", "it holds 'labels'"),
    "group instead of dataset": ({"images": None, "images/all": images()}, "'images' is a group", "'images/all'"),
    "lengths differ": ({"labels": labels()[:200]}, "'images' has 240", "'labels' has 200", "same length"),
    "empty": ({"images": images()[:0], "labels": labels()[:0]}, "'images' is empty", "(0, 4, 4)", "one sample"),
    "scalar": ({"images": np.float32(1)}, "'images' is a single value", "axis 0"),
    "text": ({"images": np.array([b"a"] * N)}, "'images' holds text", "expected integers or floating-point"),
    "complex": ({"images": images().astype(complex)}, "'images' holds complex numbers"),
    "records": ({"labels": np.zeros(N, [("a", "i4")])}, "'labels' holds records with fields a"),
    "nan": ({"images": images(at_17=np.nan)}, "'images' holds nan in sample 17", "expected finite"),
    "nan in the last sample": ({"images": images(at_239=np.nan)}, "'images' holds nan in sample 239"),
    "inf": ({"images": images(at_3=-np.inf)}, "'images' holds -inf in sample 3"),
    "negative label": ({"labels": labels(at_9=-1)}, "'labels' holds the label -1 in sample 9", "from 0"),
    "float labels": ({"labels": labels().astype(np.float32)}, "'labels' has type float32", "expected integers"),
    "one-hot labels": ({"labels": np.eye(3, dtype=int)[labels()]}, "targets of shape (3,)", "store their argmax"),
    "too large for float32": ({"images": np.full((N, 4, 4), 1e300)}, "'images' holds values too large"),
}


@pytest.mark.parametrize("name", BAD_DATASETS)
def test_bad_dataset(job, refused, name):
    datasets, *words = BAD_DATASETS[name]
    job.store(**datasets)
    refused(job.run(), str(job.data), *words)


BAD_KEYS = {
    "sample shape": ('file = "data.h5"\nsample_shape = [8, 8]', "sample_shape = [8, 8]", "data.h5", "[4, 4]"),
    "too few classes": ('file = "data.h5"\nclasses = 2', "classes = 2", "'labels' is 2", "at least 3"),
    "two files of different shapes": ('file = ["data.h5", "wide.h5"]', "wide.h5", "(5, 5)", "(4, 4)", "must agree"),
    "one of two files has no labels": ('file = ["data.h5", "blank.h5"]', "blank.h5", "no dataset 'labels'"),
    "nan in the second of two files": ('file = ["data.h5", "nan.h5"]', "nan.h5", "holds nan in sample 30"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_data_and_keys_disagree(job, refused, name):
    new, *words = BAD_KEYS[name]
    job.store("wide.h5", images=np.zeros((N, 5, 5), np.float32))
    job.store("blank.h5", labels=None)
    job.store("nan.h5", images=images(at_30=np.nan))
    job.edit(('file = "data.h5"', new))
    refused(job.run(), *words)


def test_several_bad_files_are_told_together(job, refused):
    job.store("blank.h5", labels=None)
    (job.folder / "text.h5").write_text("no HDF5")
    job.edit(('"data.h5"', '["blank.h5", "data.h5", "text.h5"]'))
    refused(job.run(), "blank.h5: has no dataset 'labels'", "text.h5: is not an HDF5 file", lines=2)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, ("is empty (0 bytes)",)),
        (0.004, ("data.h5",)),
        (0.5, ("is truncated", "copy it again")),
        (0.999, ("is truncated", "copy it again")),
    ],
)
def test_truncated_file(job, refused, share, words):
    whole = job.data.read_bytes()
    job.data.write_bytes(whole[: int(share * len(whole))])
    refused(job.run(), "data.h5", *words)


def test_not_hdf5(job, refused):
    job.data.write_text("images,labels\n1,2\n" * 1000)
    refused(job.run(), "data.h5: is not an HDF5 file")


def test_damaged_chunk(job, refused):
    with h5py.File(job.data, "w") as file:
        noise = np.random.default_rng(1).random((N, 4, 4))
        stored = file.create_dataset("images", data=noise, chunks=(40, 4, 4), compression="gzip")
        chunk = stored.id.get_chunk_info(3)
        file["labels"] = labels()
    raw = bytearray(job.data.read_bytes())
    raw[chunk.byte_offset + 20 : chunk.byte_offset + chunk.size] = bytes(chunk.size - 20)
    job.data.write_bytes(raw)
    refused(job.run(), "data.h5", "of 'images' could not be read", "damaged")


def test_missing_file(job, refused):
    job.edit(('"data.h5"', '"date.h5"'))
    refused(job.check(), '[data] file = "date.h5"', "does not exist", 'did you mean "data.h5"?')


def test_missing_folder(job, refused):
    job.edit(('"data.h5"', '"there/data.h5"'))
    refused(job.check(), '[data] file = "there/data.h5"', "nor does the folder")


def test_glob_without_match(job, refused):
    job.edit(('"data.h5"', '"day-*.h5"'))
    refused(job.check(), '[data] file = "day-*.h5"', "no file matches", str(job.folder))


def test_folder_instead_of_file(job, refused):
    (job.folder / "many").mkdir()
    job.edit(('"data.h5"', '"many"'))
    refused(job.check(), '[data] file = "many"', "is a folder", "/*.h5")


def test_memory_smaller_than_a_chunk(job, refused):
    with h5py.File(job.data, "w") as file:
        file.create_dataset("images", data=np.zeros((N, 64, 64), np.float32), chunks=(N, 64, 64), compression="gzip")
        file["labels"] = labels()
    job.edit(("[network]", 'memory = "1 MiB"\n\n[network]'))
    refused(job.run(), "data.h5: 'images'", "one chunk, 240 samples", "1.0 MiB are allowed", "more memory")


def test_everything_held_out(job, refused):
    job.store(images=images()[:2], labels=labels()[:2])
    job.edit(("[network]", "validation = 0.45\ntest = 0.45\n[network]"))
    refused(job.run(), "training part is empty: 2 samples", "lower [data] validation")


PER_POSITION = 'kind = "transformer"\nvocabulary = 9\nwidth = 8\nheads = 2\nblocks = 1\npooling = "none"'
BAD_POSITIONS = {
    "another length": (np.ones((N, 5), int), "outputs for one sample have shape (6, 2)", "'labels' has shape (5,)"),
    "two labels a position": (np.zeros((N, 6, 2), int), "targets of shape (6, 2)", "or one a position"),
    "negative label": (np.full((N, 6), -1), "'labels' holds the label -1 in sample 0", "from 0"),
    "float labels": (np.zeros((N, 6)), "'labels' has type float64", "expected integers"),
}


@pytest.mark.parametrize("name", BAD_POSITIONS)
def test_bad_labels_of_positions(job, refused, name):
    targets, *words = BAD_POSITIONS[name]
    job.store(images=np.zeros((N, 6), int), labels=targets)
    job.edit(('kind = "mlp"\nwidths = [8]', PER_POSITION))
    refused(job.run(), *words)


def test_values_of_another_number_of_positions(job, refused):
    job.store(images=np.zeros((N, 6), int), labels=np.zeros((N, 5, 2)))
    job.edit(('kind = "mlp"\nwidths = [8]', PER_POSITION), ("[network]", 'task = "regression"\n[network]'))
    refused(job.run(), "outputs for one sample have shape (6, 2)", "'labels' has shape (5, 2)", "as many outputs")


def test_labels_of_positions_for_one_output_a_sample(job, refused):
    job.store(images=np.zeros((N, 6), int), labels=np.zeros((N, 6), int))
    job.edit(('kind = "mlp"\nwidths = [8]', PER_POSITION.replace("none", "mean")))
    refused(job.run(), "'labels' has targets of shape (6,)", "one class label a sample", "an output for each")


def test_labels_that_are_no_tokens_of_tied_weights(job, refused):
    job.store(images=np.zeros((N, 6), int), labels=np.full((N, 6), 9))
    job.edit(('kind = "mlp"\nwidths = [8]', f"{PER_POSITION}\ntied = true"))
    refused(job.run(), "vocabulary = 9", "10 are wanted", "leave tied out")


def test_tokens_outside_the_vocabulary(job, refused):
    job.store(images=np.full((N, 6), 7))
    job.edit(('kind = "mlp"\nwidths = [8]', 'kind = "transformer"\nvocabulary = 7\nwidth = 8\nheads = 2\nblocks = 1'))
    refused(job.run(), "data.h5", "'images' holds the token 7 in sample 0", "vocabulary = 7", "at least 8")


def test_fractions_as_tokens(job, refused):
    job.store(images=np.full((N, 6), 0.5))
    job.edit(('kind = "mlp"\nwidths = [8]', 'kind = "transformer"\nvocabulary = 7\nwidth = 8\nheads = 2\nblocks = 1'))
    refused(job.run(), "data.h5", "'images' has type float64", "expected integers", "vocabulary")


def test_regression_wants_finite_targets(job, refused):
    values = np.zeros(N, np.float32)
    values[200] = np.nan
    job.store(labels=values)
    job.edit(("[network]", 'task = "regression"\n[network]'))
    refused(job.run(), "'labels' holds nan in sample 200")
