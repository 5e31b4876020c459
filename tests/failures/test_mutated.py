"""Files with random damage: read, or refused in a sentence; never a crash, an endless loop or a memory that runs full.

200 files of each kind every day, PHALANX_MUTATIONS=2000 for all.
"""

import hashlib
import json
import os
import random
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError
from app.storage import artifact_file, header, header_walk
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints
from app.storage.header_walk import Task, problems_of
from app.storage.networks import write_network
from app.storage.results import Results

MUTATIONS = int(os.environ.get("PHALANX_MUTATIONS", "200"))
BATCH = 100
PATIENCE_S = 60
PROVENANCE = Provenance("phalanx", "0.1.0", '[run]\nname = "x"\n', "a1b2c3", "teacher")
X = np.random.default_rng(3).integers(0, 50, (40, 4, 3)).astype(np.float32)
Y = np.arange(40) % 5

# Reads one file after the other and says what is in it; a memory that runs full is a failure here.
READER = """
import hashlib, json, resource, sys
from pathlib import Path
import numpy as np
import torch
from app.data.source import open_source
from app.errors import PhalanxError
from app.storage import artifact_file
from app.storage.networks import read_network

def data(path):
    with open_source([path], "x", "y") as source:
        digest = hashlib.sha256(repr((source.length, source.sample_shape)).encode())
        rows = max(1, min(64, (1 << 20) // source.sample_bytes))
        for start in range(0, min(source.length, 4096), rows):
            count = min(rows, source.length - start)
            inputs = np.empty((count, *source.sample_shape), source.dtype)
            targets = source.empty_targets(count)
            source.read(start, inputs, targets)
            digest.update(inputs.tobytes() + targets.tobytes())
        return digest.hexdigest()

def artifact(path):
    kind = path.rpartition(".")[2]
    tree = artifact_file.read(Path(path), kind=kind).tree
    if kind == "network":
        read_network(Path(path))
    return hashlib.sha256(repr(plain(tree)).encode()).hexdigest()

def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes()
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
print("ready", flush=True)
for line in sys.stdin:
    what, path = json.loads(line)
    try:
        answer = {"read": {"data": data, "artifact": artifact}[what](path)}
    except PhalanxError as error:
        answer = {"refused": list(error.problems)}
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """A process that reads files; it must answer every question and live to the end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self.process.stdout.readline() == "ready\n"

    def read(self, what: str, path: Path) -> dict:
        self.process.stdin.write(json.dumps([what, str(path)]) + "\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            in_time = waiting.select(PATIENCE_S)
        line = self.process.stdout.readline() if in_time else ""
        if not line:
            self.process.kill()
            said = self.process.communicate()[1]
            pytest.fail(f"{path}: {'ended' if in_time else 'hung'} the reader ({self.process.returncode}): {said}")
        return json.loads(line)

    def close(self) -> None:
        self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These files are small: of one that never ends that is known soon."""
    monkeypatch.setattr(header_walk, "CPU_S", 2)
    monkeypatch.setattr(header_walk, "DEATHS", BATCH)


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def plain(**layout: object) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", data=X, **layout)
        file.create_dataset("y", data=Y, **({"chunks": (10,)} if "chunks" in layout else {}))

    return fill


def compact(file: h5py.File) -> None:
    rules = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    rules.set_layout(h5py.h5d.COMPACT)
    for name, values in (("x", X), ("y", Y)):
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, rules)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def virtual(file: h5py.File) -> None:
    file["parts/a"], file["parts/b"], file["y"] = X[:20], X[20:], Y
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:20] = h5py.VirtualSource(".", "parts/a", (20, 4, 3))
    layout[20:] = h5py.VirtualSource(".", "parts/b", (20, 4, 3))
    file.create_virtual_dataset("x", layout)


def soft(file: h5py.File) -> None:
    file["deep/er/x"], file["deep/y"] = X, Y
    file["x"], file["y"] = h5py.SoftLink("/deep/also/x"), h5py.SoftLink("deep/y")
    file["deep/also"] = h5py.SoftLink("er")


def many_links(file: h5py.File) -> None:
    plain()(file)
    for number in range(60):
        file[f"group{number:03}/other"] = number


def with_texts(file: h5py.File) -> None:
    plain(chunks=(10, 4, 3))(file)
    file["names"] = ["a", "bcd", "ef"] * 9
    file["x"].attrs["unit"] = "counts per second"
    file.attrs["creator"] = "somebody"


def resizable(file: h5py.File) -> None:
    plain(chunks=(7, 4, 3), maxshape=(None, 4, 3), compression="gzip")(file)


BASES: dict[str, tuple[dict, Callable[[h5py.File], None]]] = {
    "contiguous": ({}, plain()),
    "chunks": ({}, plain(chunks=(10, 4, 3))),
    "gzip and shuffle": ({}, plain(chunks=(10, 4, 3), compression="gzip", shuffle=True)),
    "gzip across samples": ({}, plain(chunks=(16, 2, 3), compression="gzip")),
    "fletcher32": ({}, plain(chunks=(10, 4, 3), compression="gzip", fletcher32=True)),
    "lzf": ({}, plain(chunks=(10, 4, 3), compression="lzf")),
    "compact": ({}, compact),
    "latest": ({"libver": "latest"}, plain(chunks=(10, 4, 3), compression="gzip")),
    "latest, fixed array": ({"libver": "latest"}, plain(chunks=(2, 4, 3))),
    "latest, extensible array": ({"libver": "latest"}, resizable),
    "latest, two unlimited axes": ({"libver": "latest"}, plain(chunks=(7, 2, 3), maxshape=(None, None, 3))),
    "latest, many links": ({"libver": "latest"}, many_links),
    "many links": ({}, many_links),
    "resizable": ({}, resizable),
    "virtual": ({}, virtual),
    "soft links": ({}, soft),
    "texts": ({}, with_texts),
    "user block": ({"userblock_size": 512}, plain(chunks=(10, 4, 3))),
}


def mutated(content: bytes, number: int) -> bytes:
    """One to three places of a file with other bytes, or a shorter file; the number decides."""
    chosen, changed = random.Random(number), bytearray(content)
    if chosen.random() < 0.1:
        return bytes(changed[: chosen.randrange(len(changed))])
    for _ in range(chosen.choice((1, 1, 2, 3))):
        at = chosen.randrange(len(changed))
        way = chosen.randrange(3)
        if way == 0:
            changed[at] ^= 1 << chosen.randrange(8)
        elif way == 1:
            piece = chosen.randbytes(chosen.randint(1, 16))
            changed[at : at + len(piece)] = piece[: len(changed) - at]
        else:  # an address, a length or a count of another place
            start = chosen.randrange(0, len(changed) - 8)
            changed[at : at + 8] = chosen.choice((changed[start : start + 8], bytes(8), b"\xff" * 8))[
                : len(changed) - at
            ]
    return bytes(changed)


def base_files(folder: Path) -> list[Path]:
    files = []
    for number, (settings, fill) in enumerate(BASES.values()):
        files.append(folder / f"base-{number}.h5")
        with h5py.File(files[-1], "w", **settings) as file:
            fill(file)
    return files


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_mutated_data_files_are_read_or_refused(tmp_path: Path, reader: Reader) -> None:
    bases = base_files(tmp_path)
    contents = [path.read_bytes() for path in bases]
    right = {reader.read("data", path)["read"] for path in bases}
    assert len(right) == 1
    counts: Counter[str] = Counter()
    for start in range(0, MUTATIONS, BATCH):
        files = [tmp_path / f"{number:06}.h5" for number in range(start, min(start + BATCH, MUTATIONS))]
        for number, path in enumerate(files, start):
            path.write_bytes(mutated(contents[number % len(contents)], number))
        for path, problems in zip(files, problems_of([Task("data", path, ("x", "y")) for path in files]), strict=True):
            answer = {"refused": problems} if problems else reader.read("data", path)
            counts[outcome(answer, right)] += 1
            for problem in answer.get("refused", ()):
                assert problem.startswith(f"{tmp_path}/")
                assert problem.isprintable()
            counts["guarded"] += guarded(problems)
            path.unlink()
    reader.close()
    print(dict(counts))
    assert counts["equal"] > 0
    assert counts["refused"] > MUTATIONS // 20


def guarded(problems: Sequence[str]) -> bool:
    """Whether a file ended the process that looked at it first."""
    return any("HDF5 crashes" in text or "come to an end" in text or "want more than" in text for text in problems)


def outcome(answer: dict, right: set[str]) -> str:
    if "refused" in answer:
        return "refused"
    return "equal" if answer["read"] in right else "other numbers"


def own_files(folder: Path) -> list[Path]:
    """A network, a checkpoint and a run's results; the end of a name is the kind."""
    weights = {"0.weight": torch.arange(60.0).reshape(6, 10), "0.bias": torch.ones(6).bfloat16()}
    architecture = {"kind": "mlp", "options": {"widths": [6]}, "sample_shape": [10], "outputs": 6}
    write_network(folder / "network.network", weights, architecture, {"classes": ["a", "b"]}, PROVENANCE)
    state = {"weights": weights, "optimizer": [{"step": 3, "momentum": None}], "losses": [1.5, 0.5]}
    made = Checkpoints(folder / "c").write(state, provenance=PROVENANCE, phase="t", epoch=1, step=3)
    made.rename(folder / "state.checkpoint")
    Results(folder / "results.run").update({"phases": {"t": {"loss": np.arange(5.0), "seconds": 2.5}}}, PROVENANCE)
    return [folder / "network.network", folder / "state.checkpoint", folder / "results.run"]


@pytest.mark.slow
def test_of_our_own_files_no_number_is_silently_wrong(tmp_path: Path) -> None:
    for path in own_files(tmp_path):
        content, kind = path.read_bytes(), path.suffix[1:]
        for number in range(MUTATIONS):
            changed = mutated(content, number)
            path.write_bytes(changed)
            if changed == content:
                continue
            with pytest.raises(ArtifactError) as caught:
                artifact_file.read(path, kind=kind)
            assert caught.value.problems[0].startswith(str(path))


def with_right_checksum(content: bytes, kind: str) -> bytes:
    """What a stranger can make: any content under a header that agrees with it."""
    body = content[header.SIZE :]
    return header.make(kind, hashlib.sha256(body).hexdigest(), len(body)) + body


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_strangers_file_with_a_right_checksum_does_no_harm(tmp_path: Path, reader: Reader) -> None:
    counts: Counter[str] = Counter()
    for path in own_files(tmp_path):
        content, kind = path.read_bytes(), path.suffix[1:]
        right = {reader.read("artifact", path)["read"]}
        for start in range(0, MUTATIONS, BATCH):
            files = [tmp_path / f"{number:06}.{kind}" for number in range(start, min(start + BATCH, MUTATIONS))]
            for number, made in enumerate(files, start):
                made.write_bytes(with_right_checksum(mutated(content, number), kind))
            for made, problems in zip(
                files, problems_of([Task("artifact", one, (kind,)) for one in files]), strict=True
            ):
                answer = {"refused": problems} if problems else reader.read("artifact", made)
                counts[outcome(answer, right)] += 1
                counts["guarded"] += guarded(problems)
                made.unlink()
    reader.close()
    print(dict(counts))
    assert counts["refused"] > MUTATIONS // 20
