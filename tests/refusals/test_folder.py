"""The run folder: where nothing can be written, and what an earlier start left that does not go with this one."""

import json
import subprocess

import pytest

from app.errors import Stopped
from app.phases import train
from app.storage.lock import process


@pytest.fixture
def stopped(job, monkeypatch):
    """A run that ended between its last step and its end, with two checkpoints."""

    def stop(*arguments: object) -> None:
        raise Stopped("stopped by the test").on_every_rank()

    (job.folder / "nets.py").write_text(net(8))
    job.edit(("epochs = 1", "epochs = 1\ncheckpoint_steps = 1"), ('"mlp"\nwidths = [8]', '"nets.py:net"'))
    with monkeypatch.context() as patch:
        patch.setattr(train, "store_network", stop)
        assert job.run().code == 75
    assert len(checkpoints(job)) == 2
    return job


def net(width: int) -> str:
    return (
        "from torch import nn\n"
        "def net(shape, outputs):\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear(16, {width}), nn.ReLU(), nn.Linear({width}, outputs))\n"
    )


def checkpoints(job):
    return sorted((job.results / "checkpoints" / "first").iterdir())


def damage(path):
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


def test_a_file_where_the_run_folder_should_be(job, refused):
    job.results.write_text("mine")
    refused(job.run(), f"{job.results}: ", "[run] folder", code=1)
    assert job.results.read_text() == "mine"


def test_a_file_on_the_way_to_the_run_folder(job, refused):
    job.edit((str(job.results), str(job.data / "results")))
    refused(job.run(), f"{job.data}", "[run] folder", code=1)


def test_a_file_where_the_run_needs_a_folder(job, refused):
    job.results.mkdir()
    (job.results / "networks").write_text("mine")
    refused(job.run(), f"{job.results / 'networks'}: ", "move it away", code=1)


def test_a_place_where_nobody_may_write(job, refused):
    job.edit((str(job.results), "/proc/phalanx"))
    refused(job.run(), "/proc/phalanx", "[run] folder", code=1)


def test_changed_input(trained, refused):
    trained.edit(("[run]", "[run]\nseed = 4"), ("epochs = 1", "epochs = 2\nrate = 0.5"), ("[8]", "[9]"))
    told = trained.run()
    changes = (
        "run.seed: was 0, is 4",
        "network.widths: was [8], is [9]",
        "phase.first.epochs: was 1, is 2",
        "phase.first.rate: was 0.001, is 0.5",
    )
    refused(told, f"{trained.input}: {trained.results} holds a run", "--fresh", *changes, lines=5)


def test_changed_input_is_found_by_check_too(trained, refused):
    trained.edit(("[run]", "[run]\nseed = 4"))
    refused(trained.check(), "run.seed: was 0, is 4", lines=2)


def test_what_may_change(trained):
    """Resources, and phases that have not begun."""
    trained.edit(
        ("[run]", "[run]\nthreads = 1\nlog_seconds = 3"),
        ('name = "test-of-first"', 'name = "test-of-first"\ntop_k = [2]'),
    )
    told = trained.run()
    assert told.code == 0
    assert "first: done on an earlier start, skipped" in told.out


def test_after_a_mistake_found_in_a_phase_the_input_may_be_mended(job, refused):
    """Nothing is stored yet that another input could spoil."""
    (job.folder / "nets.py").write_text(net(8).replace("outputs))", "7))"))
    job.edit(('"mlp"\nwidths = [8]', '"nets.py:net"'))
    refused(job.run(), "must be 3")
    job.edit(('"nets.py:net"', '"mlp"'), ("[run]", "[run]\nseed = 4"))
    assert job.run().code == 0


def test_changed_data(trained, refused):
    trained.store(labels=None, label=[0] * 240)
    trained.store()
    refused(trained.run(), "data.h5", "changed since this run began", "--fresh")


def test_changed_data_and_a_fresh_start(trained):
    trained.store()
    assert trained.run("--fresh").code == 0


def test_damaged_network(trained, refused):
    damage(trained.results / "networks" / "first.h5")
    refused(trained.run(), str(trained.results / "networks" / "first.h5"), "damaged", "checksum", "What to try")


def test_truncated_network(trained, refused):
    path = trained.results / "networks" / "first.h5"
    path.write_bytes(path.read_bytes()[:3000])
    refused(trained.run(), str(path), "truncated: 3,000 of", "What to try")


def test_a_users_file_as_network(trained, refused):
    path = trained.results / "networks" / "first.h5"
    path.write_bytes(trained.data.read_bytes())
    refused(trained.run(), str(path), "not written by Phalanx")


def test_results_as_network(trained, refused):
    path = trained.results / "networks" / "first.h5"
    path.write_bytes((trained.results / "run.h5").read_bytes())
    refused(trained.run(), str(path), "expected", "network")


def test_damaged_results(trained, refused):
    damage(trained.results / "run.h5")
    refused(trained.run(), str(trained.results / "run.h5"), "damaged", "What to try")


def test_damaged_progress(trained, refused):
    (trained.results / "progress.json").write_text("{")
    refused(trained.run(), str(trained.results / "progress.json"), "damaged", "--fresh")


def test_damaged_network_and_info(trained, refused):
    path = trained.results / "networks" / "first.h5"
    damage(path)
    refused(trained.command("info", str(path)), str(path), "damaged", "checksum")


def test_another_network_in_the_checkpoint(stopped, refused):
    """The input file is the same, but the user's Python file is not, and that is allowed."""
    (stopped.folder / "nets.py").write_text(net(9))
    told = stopped.run("--other-code")
    words = ("do not fit the network", "1.weight has the shape (8, 16), the network's is (9, 16)", "--fresh")
    refused(told, str(checkpoints(stopped)[-1]), *words, lines=2)


def test_another_python_file(stopped, refused):
    (stopped.folder / "nets.py").write_text(net(8) + "# edited\n")
    refused(stopped.run(), "other code began", "--other-code", "nets.py: was ", lines=2)
    assert stopped.run("--other-code").code == 0


def test_another_version(stopped, refused):
    progress = json.loads((stopped.results / "progress.json").read_text())
    progress["code"]["torch"] = "1.2.3"
    (stopped.results / "progress.json").write_text(json.dumps(progress, indent=1))
    assert stopped.check().code == 0, "a login node may have other versions"
    refused(stopped.run(), "other code began", "torch: was 1.2.3, is 2", "--fresh", lines=2)


def test_a_folder_in_use(stopped, refused):
    with subprocess.Popen(["sleep", "60"]) as other:
        holder = {"host": "here", "pid": other.pid, "since": "noon", **process(other.pid)}
        (stopped.results / "lock.json").write_text(json.dumps(holder))
        refused(
            stopped.run(), str(stopped.results), f"process {other.pid} on host here, since noon", "another [run] folder"
        )
        other.kill()
    told = stopped.run()
    assert (told.code, told.err) == (0, ""), "the file of a dead process blocks nobody"


def test_an_unknown_last_phase(job, refused):
    refused(job.run("--until", "frist"), "--until frist", "did you mean 'first'?")


def test_all_checkpoints_damaged(stopped, refused):
    for path in checkpoints(stopped):
        damage(path)
    told = stopped.run()
    refused(told, "none of its 2 checkpoints is whole", "delete the folder", *map(str, checkpoints(stopped)), lines=3)


def test_one_checkpoint_damaged_is_no_mistake(stopped):
    damage(checkpoints(stopped)[-1])
    told = stopped.run()
    assert (told.code, told.err) == (0, "")
    assert "a damaged checkpoint is passed over" in told.out
