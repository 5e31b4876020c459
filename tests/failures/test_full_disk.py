"""Runs whose disk is full, read-only, or takes no larger files just when a file is to be written: each ends with one
sentence, nothing older is lost, and once there is room again the run goes on to the same numbers.

PHALANX_DISK=all asks for every fault of every file; an everyday test takes one fault of each.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from app.errors import ArtifactError
from app.storage import artifact_file
from tests.launch import ALONE, TREE, Ended, Job
from tests.runs import fragile, outcome

PIPED = ("bash", "-c", 'set -o pipefail; "$@" 2>&1 | cat', "bash")  # or a limit of file sizes would end the output too
HOOK = Path(__file__).with_name("programs") / "disk"
FAULTS = {
    "full": "No space left on device",
    "limit": "File too large",
    "read-only": "Read-only file system",
}
# In the order in which a run comes to write them; @, % and # are of rank 1 where two ranks write, else of rank 0.
FILES = (
    "lock.json",
    "progress.json",
    "run.h5",
    "checkpoints/net/[0-9-]+@.h5",
    "traces/net.json",
    "networks/net.h5",
    "checkpoints/thin/1/[0-9-]+@.h5",
    "checkpoints/thin/after-1.h5",
    "networks/thin.h5",
    "teachers/.*/0000#-00000.h5",
    "checkpoints/student/[0-9-]+@.h5",
    "checkpoints/ground/[0-9-]+.h5",
    "states/ground/[0-9]+[.]%.h5",
    "outcome.json",
)
EXHAUSTIVE = os.environ.get("PHALANX_DISK") == "all"


class Disk:
    """A small file system in memory, seen by the processes that start with `prefix`; by others under `seen`."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        unshare = shutil.which("unshare")
        if unshare is None or shutil.which("nsenter") is None:
            pytest.skip("needs the commands unshare and nsenter to mount a small file system")
        if os.geteuid() != 0:
            pytest.skip("needs root to enter the small file system again")
        mount = f'mount -t tmpfs -o size={size} none "{folder}" && echo mounted && exec sleep 3600'
        self._holder = subprocess.Popen([unshare, "--mount", "sh", "-c", mount], stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            pytest.skip("no right to mount a small file system here")
        self.prefix = ("nsenter", "--target", str(self._holder.pid), "--mount")
        self.seen = Path(f"/proc/{self._holder.pid}/root{folder}")

    def leave(self, room: int) -> None:
        """So many bytes stay free."""
        state = os.statvfs(self.seen)
        (self.seen / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - room))

    def mend(self) -> None:
        """There is room again, and it may be written to."""
        while "ro" in self._options().split(","):
            subprocess.run([*self.prefix, "umount", "--lazy", str(self.folder)], check=True)
        (self.seen / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """All that was written there is gone."""
        self._holder.kill()
        self._holder.communicate()

    def _options(self) -> str:
        command = [*self.prefix, "findmnt", "--noheadings", "--output", "OPTIONS", "--mountpoint", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """64 MiB that are lost in the end."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder, "64m")
    yield disk
    disk.close()


def started(
    file: Path,
    grid: tuple[int, int],
    folder: Path,
    prefix: Sequence[str] = (),
    wanted: dict[str, object] | None = None,
    options: Sequence[str] = (),
) -> Ended:
    """A run with its folder there, whose disk fails as wanted."""
    environ = {"PYTHONPATH": str(HOOK), "PHALANX_TEST_DISK": json.dumps(wanted)} if wanted else {}
    settings = (f"grid.stages={grid[1]}", f"run.folder={folder}", "run.measure=0", "run.trace=2")
    with Job(file, grid[0], *settings, options=options, prefix=prefix, environ=environ) as job:
        return job.wait()


def faults(shift: int) -> list[tuple[str, str]]:
    """Files and what happens to them."""
    kinds = list(FAULTS)
    if EXHAUSTIVE:
        return [(file, fault) for file in FILES for fault in kinds]
    return [(file, kinds[(number + shift) % len(kinds)]) for number, file in enumerate(FILES)]


@pytest.mark.timeout(60 * len(FILES) * 4)
@pytest.mark.parametrize(("grid", "shift"), [((ALONE, 1), 0), ((2, 2), 1)])
def test_every_file_of_a_run(grid, shift, tmp_path, disk):
    """One run that meets a fault at each of its starts, and goes on at the next."""
    file = fragile.write_every_kind(tmp_path, 0.0)
    assert started(file, grid, tmp_path / "straight").code == 0
    for name, fault in faults(shift):
        rank, path = writer(grid, name)
        wanted = {"file": f"{disk.folder}/{path}", "rank": rank, "fault": fault, "folder": str(disk.folder)}
        ended = started(file, grid, disk.folder, (*PIPED, *disk.prefix), wanted)
        assert_told(ended, f"{disk.folder}/{path if fault == 'limit' else met_on_the_disk(path)}", FAULTS[fault])
        assert_whole(disk.seen)
        disk.mend()
    ended = started(file, grid, disk.folder, disk.prefix)
    assert ended.code == 0, ended.text
    assert_same(disk.seen, tmp_path / "straight")


@pytest.mark.timeout(1800)
def test_a_disk_that_is_nearly_full(tmp_path, disk):
    """Room for a little more at each start, until it is enough."""
    file = fragile.write_every_kind(tmp_path, 0.0)
    assert started(file, (ALONE, 1), tmp_path / "straight").code == 0
    rooms = range(0, 200, 4) if EXHAUSTIVE else (0, 8, 40, 100)
    for room in rooms:
        disk.leave(room << 10)
        ended = started(file, (ALONE, 1), disk.folder, disk.prefix)
        assert_whole(disk.seen)
        if ended.code:
            assert_told(ended, f"{disk.folder}/[^:]+", FAULTS["full"])
        disk.mend()
    ended = started(file, (ALONE, 1), disk.folder, disk.prefix)
    assert ended.code == 0, ended.text
    assert_same(disk.seen, tmp_path / "straight")


def test_a_limit_of_file_sizes_of_the_shell(tmp_path):
    """As `ulimit -f` gives it to the whole run."""
    file = fragile.write_every_kind(tmp_path, 0.0)
    limited = (*PIPED, "bash", "-c", 'ulimit -f 16; exec "$@"', "bash")
    ended = started(file, (ALONE, 1), tmp_path / "out", limited)
    assert_told(ended, f"{tmp_path}/out/[^:]+[.]h5", FAULTS["limit"])
    assert_whole(tmp_path / "out")
    ended = started(file, (ALONE, 1), tmp_path / "out")
    assert ended.code == 0, ended.text


@pytest.mark.parametrize("fault", FAULTS)
def test_pictures(fault, tmp_path, disk):
    """`phalanx report` leaves no half of a picture, and the older one where it cannot draw a new one."""
    file = fragile.write_every_kind(tmp_path, 0.0)
    assert started(file, (ALONE, 1), disk.folder, disk.prefix, options=("--until", "net")).code == 0
    assert report(disk).code == 0
    picture = disk.seen / "report" / "timeline-net.png"
    before = picture.read_bytes()
    path = f"{disk.folder}/report/timeline-net.png"
    ended = report(disk, {"file": path, "rank": 0, "fault": fault, "folder": str(disk.folder)})
    assert_told(ended, path, FAULTS[fault])
    assert picture.read_bytes() == before
    assert [path.name for path in picture.parent.iterdir() if path.suffix != ".png"] == ["index.html"]


def report(disk: Disk, wanted: dict[str, object] | None = None) -> Ended:
    """The command, whose disk fails as wanted."""
    done = subprocess.run(
        [*disk.prefix, sys.executable, "-m", "app", "report", str(disk.folder)],
        env=os.environ | {"PYTHONPATH": f"{HOOK}:{TREE}", "PHALANX_TEST_DISK": json.dumps(wanted or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ended(done.returncode, done.stdout + done.stderr)


def assert_same(folder: Path, straight: Path) -> None:
    """To the last bit what a run finds that nothing stops; and nothing damaged lies about."""
    for phase in ("net", "student"):
        outcome.assert_same_run(folder, straight, phase)
    for phase in ("thin", "student"):
        outcome.assert_same_bits(outcome.weights(folder, phase), outcome.weights(straight, phase))
    outcome.assert_same_bits(outcome.metrics(folder), outcome.metrics(straight))
    assert_whole(folder)


def writer(grid: tuple[int, int], name: str) -> tuple[int, str]:
    """The rank that writes a file, and what matches the file's path in the folder."""
    if grid[0] == 1 or grid[0] == ALONE:
        return 0, name.replace("@", "").replace("%", "1of1").replace("#", "0")
    path = name.replace("@", "[.]2of2").replace("%", "2of2").replace("#", "1")
    return int(path != name), path


def met_on_the_disk(path: str) -> str:
    """What matches the files that may be the first to meet a disk that fails for all of them. A checkpoint is written
    beside the training, which may have another file to write just then; of the others any rank's may come first."""
    if path.startswith("checkpoints/"):
        return "[^:]+"
    return path.replace("2of2", "[12]of2").replace("00001-", "0000[01]-")


def assert_told(ended: Ended, path: str, why: str) -> None:
    """One sentence: which file, why, what to try."""
    assert ended.code == 1, ended.text
    said = [line for line in ended.text.splitlines() if "What to try" in line]
    assert len(said) == 1, ended.text
    assert re.search(f"{path}: cannot be written: {why}", said[0]), ended.text
    assert "Traceback" not in ended.text


def assert_whole(folder: Path) -> None:
    """What is there under its name can be read; what was begun is gone."""
    for path in folder.rglob("*.h5"):
        try:
            with artifact_file.opened(path):
                pass
        except ArtifactError as error:
            pytest.fail(str(error))
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    assert not list(folder.rglob("*.part"))
