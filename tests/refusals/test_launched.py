"""The same over several ranks: one speaks for all, whoever found it, and all leave with its exit code."""

import sys

import h5py
import numpy as np

from tests.launch import launcher

N = 9000  # three blocks of the first reading: with 2 ranks, rank 1 reads the first and the last


def images() -> np.ndarray:
    return np.random.default_rng(2).random((N, 4, 4), np.float32)


def labels() -> np.ndarray:
    return np.arange(N) % 3


def store(job, **datasets: np.ndarray) -> None:
    """Write the data in chunks, of which each rank reads its own."""
    with h5py.File(job.data, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, chunks=(20, *values.shape[1:]))


def test_mistakes_of_the_text(job, refused):
    job.edit(("epochs = 1", "epoch = 1"), ('"labels"', "1"))
    told = job.launch(2)
    refused(told, f'{job.input}: [[phase]] "first": unknown key', "[data]: targets = 1", lines=2)
    assert told.out == ""


def test_fewer_microbatches_than_ranks(job, refused):
    refused(job.launch(5), '[[phase]] "first": batch_size = 40', "5 replicas", "start fewer ranks")


def test_truncated_data(job, refused):
    job.data.write_bytes(job.data.read_bytes()[:9000])
    refused(job.launch(3), "data.h5: is truncated")


def test_nan_that_only_the_other_rank_reads(job, refused):
    spoiled = images()
    spoiled[N - 1, 0, 3] = np.nan
    store(job, images=spoiled, labels=labels())
    refused(job.launch(2), f"data.h5: 'images' holds nan in sample {N - 1}", "expected finite")


def test_bad_values_in_every_share(job, refused):
    """Both ranks find something; one sentence is told, about the first of all."""
    spoiled = images()
    spoiled[::100] = np.inf
    store(job, images=spoiled, labels=np.full(N, -5))
    refused(job.launch(2), "data.h5: 'images' holds inf in sample 0 ")


def test_damaged_chunk_that_only_the_other_rank_reads(job, refused):
    with h5py.File(job.data, "w") as file:
        stored = file.create_dataset("images", data=images(), chunks=(20, 4, 4), compression="gzip")
        chunk = stored.id.get_chunk_info(stored.id.get_num_chunks() - 1)
        file["labels"] = labels()
    raw = bytearray(job.data.read_bytes())
    raw[chunk.byte_offset + 20 : chunk.byte_offset + chunk.size] = bytes(chunk.size - 20)
    job.data.write_bytes(raw)
    refused(job.launch(2), "data.h5: samples ", "of 'images' could not be read", "damaged")


def test_users_network_fails_on_the_other_rank_alone(job, refused):
    (job.folder / "nets.py").write_text(
        "import os\nfrom torch import nn\ndef net(shape, outputs):\n"
        "    if os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK')) == '1':\n"
        "        raise ValueError('only here')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))\n"
    )
    job.edit(('"mlp"\nwidths = [8]', '"nets.py:net"'))
    refused(job.launch(2), "rank 1 on ", "nets.py:net failed", "line 5: ValueError: only here")


def test_folder_that_cannot_be_made(job, refused):
    job.results.write_text("mine")
    refused(job.launch(2), f"{job.results}: ", "[run] folder", code=1)


def test_changed_data(trained, refused):
    trained.store()
    refused(trained.launch(2), "data.h5", "changed since this run began")


def test_damaged_network(trained, refused):
    path = trained.results / "networks" / "first.h5"
    path.write_bytes(path.read_bytes()[:-9])
    refused(trained.launch(2), str(path), "truncated")


def test_horovod_that_is_not_there(job, refused):
    """Wanted by name, so the run does not go on without it."""
    job.edit(("[data]", '[grid]\nallreduce = "horovod"\n[data]'))
    hidden = "import sys; sys.modules['horovod'] = None; from app.cli import main; sys.exit(main(sys.argv[1:]))"
    told = job.start([*launcher(2), sys.executable, "-c", hidden, "run", str(job.input)])
    refused(told, '[grid] allreduce = "horovod", but Horovod is not installed', 'allreduce = "mpi"', code=1)
