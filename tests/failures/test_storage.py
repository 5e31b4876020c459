"""Killed writers, full disks, limits and closed folders: the older file stays whole, and the reason is said."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.checkpoints import Checkpoints

KILLS = 50

WRITER = """
import sys
from pathlib import Path
import numpy as np
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
parts = int(sys.argv[2])
newest = checkpoints.newest()
step = newest.step if newest else 0
checkpoints.drop(step // 7, step)
while True:
    step += 1
    provenance = Provenance("phalanx", "0", "", "run", "teacher")
    for part in range(parts):
        tree = {"w": {str(part): np.full(100_000 // parts, float(step))}, "step": step}
        checkpoints.write(
            tree, provenance=provenance, phase="teacher", epoch=step // 7, step=step, part=part, parts=parts
        )
    checkpoints.drop(step // 7, step)
    print(step, flush=True)
"""


def killed_after(folder, parts, chosen):
    """Let a process write checkpoints, kill it at a random moment; the last step that it reported as written."""
    command = [sys.executable, "-c", WRITER, folder, str(parts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        try:
            process.wait(timeout=chosen.uniform(0, 0.06))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        said = (first + process.stdout.read()).split("\n")
    assert process.returncode == -signal.SIGKILL
    return int(said[-2])  # what follows the last line break is a torn line


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
def test_after_any_kill_the_newest_checkpoint_is_whole_and_none_is_lost(tmp_path, parts):
    chosen = random.Random(11)
    folder = tmp_path / "teacher"
    newest = 0
    for _ in range(KILLS):
        reported = killed_after(folder, parts, chosen)
        checkpoints = Checkpoints(folder)
        found = checkpoints.newest()
        assert found.step >= reported > newest
        # No file is ever half there, and of a set that was not finished nothing is damaged.
        assert [item.reason for item in checkpoints.passed_over if "never finished" not in item.reason] == []
        assert found.tree["step"] == found.step
        assert found.epoch == found.step // 7
        assert len(found.tree["w"]) == parts
        assert all((part == found.step).all() for part in found.tree["w"].values())
        newest = found.step
    kept = Checkpoints(folder)
    kept.write({}, provenance=found.header.provenance, phase="teacher", epoch=newest, step=newest)
    assert len(os.listdir(folder)) == 1 + parts  # the temporary files of the killed are gone too
    assert kept.newest().epoch == newest


# Each of the programs below prints what MachineError says, and then what is left.
PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from app.errors import MachineError
from app.storage import artifact_file
from app.storage.artifact_file import Provenance
folder = Path(sys.argv[1])
path = folder / "a.h5"
provenance = Provenance("phalanx", "0", "", "run", "teacher")
def write(count):
    artifact_file.write(path, {"w": np.arange(count)}, kind="state", provenance=provenance)
def refused(count):
    try:
        write(count)
    except MachineError as error:
        print(error)
def remaining():
    print("whole", artifact_file.read(path, kind="state").tree["w"].size, sorted(os.listdir(folder)))
"""


def run(program, folder, prefix=()):
    command = [*prefix, sys.executable, "-c", PRELUDE + program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_own_file_system(folder, options):
    """The start of a command line that runs with a small file system in memory at `folder`, gone when it ends."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs the command unshare to mount a small file system")
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o "{options}" none "{folder}" && exec "$@"'
    prefix = [unshare, "--mount", *who, "sh", "-c", mount, "sh"]
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"no right to mount a small file system here: {tried.stderr.strip()}")
    return prefix


def test_a_full_disk(tmp_path):
    program = "write(1000); refused(1_000_000); remaining()"
    out = run(program, tmp_path, with_own_file_system(tmp_path, "size=1m"))
    message, left = out.splitlines()
    assert f"{tmp_path}/a.h5: cannot be written: No space left on device; 8,00" in message
    assert "bytes were needed" in message
    assert "bytes are free there" in message
    assert "free space there" in message
    assert left == "whole 1000 ['a.h5']"


def test_a_disk_that_another_program_filled(tmp_path):
    program = (
        "write(1000)\n"
        "try: (folder / 'filler').write_bytes(bytes(2 << 20))\n"
        "except OSError: pass\n"
        "refused(1000); remaining()"
    )
    out = run(program, tmp_path, with_own_file_system(tmp_path, "size=1m"))
    assert "No space left on device" in out
    assert "whole 1000 ['a.h5', 'filler']" in out


def test_a_log_on_a_full_disk_does_not_end_the_run(tmp_path):
    program = (
        "from app.report.log import Log\n"
        "log = Log(folder / 'run.log')\n"
        "for number in range(500): log.info('x' * 1000)\n"
        "(folder / 'room').unlink()\n"
        "log.info('there is room again')\n"
        "print('THE FILE ENDS', (folder / 'run.log').read_text()[-40:])"
    )
    program = "(folder / 'room').write_bytes(bytes(100_000))\n" + program
    out = run(program, tmp_path, with_own_file_system(tmp_path, "size=256k"))
    assert out.count("No space left on device") == 1
    assert "there is room again" in out.split("THE FILE ENDS")[1]


def test_a_read_only_file_system(tmp_path):
    prefix = with_own_file_system(tmp_path, "ro")
    program = (
        "from app.storage.run_folder import RunFolder\n"
        "refused(10)\n"
        "try: RunFolder(folder / 'run').create()\n"
        "except MachineError as error: print(error)"
    )
    first, second = run(program, tmp_path, prefix).splitlines()
    assert "a.h5: cannot be written: Read-only file system" in first
    assert "run: cannot be made or written in: Read-only file system" in second


def test_a_full_disk_is_found_before_anything_is_fetched(tmp_path):
    program = (
        "from app.storage.leaves import Later\n"
        "def fetch(): print('fetched'); return np.zeros(1_000_000)\n"
        "write(1000)\n"
        "tree = {'w': Later((1_000_000,), np.dtype('f8'), fetch)}\n"
        "try: artifact_file.write(path, tree, kind='state', provenance=provenance)\n"
        "except MachineError as error: print(error)\n"
        "remaining()"
    )
    message, left = run(program, tmp_path, with_own_file_system(tmp_path, "size=1m")).splitlines()
    assert "No space left on device; 8,00" in message
    assert left == "whole 1000 ['a.h5']"


def test_a_limit_of_file_sizes(tmp_path):
    program = (
        "write(1000)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "refused(1_000_000); remaining(); write(2000); remaining()"
    )
    out = run(program, tmp_path)
    assert "a.h5: cannot be written: File too large" in out
    assert "ulimit -f" in out
    assert "whole 1000 ['a.h5']\nwhole 2000 ['a.h5']" in out


def test_a_folder_that_is_closed(tmp_path):
    program = "write(1000); os.chmod(folder, 0o555)\nif os.geteuid() == 0: os.setuid(65534)\nrefused(2000); remaining()"
    folder = Path("/tmp") / f"phalanx-closed-{os.getpid()}"  # pytest closes the parents of tmp_path to other users
    folder.mkdir()
    try:
        out = run(program, folder)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert "a.h5: cannot be written: Permission denied" in out
    assert "whole 1000 ['a.h5']" in out
