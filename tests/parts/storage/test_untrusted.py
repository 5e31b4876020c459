"""A stranger's data file leads a reader nowhere: to no other file, into no endless walk, and not into all memory."""

import ctypes
import os
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.errors import DataError, MachineError
from app.storage import header_walk
from app.storage.describe import describe
from app.storage.header_walk import check_data
from app.storage.rows import open_rows

VALUES = np.arange(24.0).reshape(8, 3)


def told(file: Path, name: str = "x") -> str:
    """The one sentence with which a file is refused, by the check in another process and by the reader itself."""
    with pytest.raises(DataError) as checked:
        check_data([file], [name])
    with pytest.raises(DataError) as opened:
        open_rows(file, name)
    assert checked.value.problems == opened.value.problems
    (problem,) = checked.value.problems
    assert problem.startswith(f"{file}: ")
    return problem


def read(file: Path, name: str = "x") -> np.ndarray:
    """All rows of a file that the check finds good."""
    check_data([file], [name])
    rows = open_rows(file, name)
    out = np.empty((rows.length, *rows.shape), rows.dtype)
    rows.read_into(0, out)
    rows.close()
    return out


def made(file: Path, fill: Callable[[h5py.File], object], **settings: object) -> Path:
    file.parent.mkdir(exist_ok=True)
    with h5py.File(file, "w", **settings) as h5:
        fill(h5)
    return file


def virtual(file: Path, sources: list[str], rows: int = 8, inside: str = "x") -> Path:
    layout = h5py.VirtualLayout((rows * len(sources), 3), np.float64)
    for number, source in enumerate(sources):
        layout[number * rows : (number + 1) * rows] = h5py.VirtualSource(source, inside, (rows, 3))
    return made(file, lambda h5: h5.create_virtual_dataset("x", layout))


def patterned(file: Path, source: str, inside: str = "x") -> Path:
    """A virtual dataset of any number of files: %b counts them."""

    def fill(h5: h5py.File) -> None:
        unlimited = h5py.h5s.create_simple((0, 3), (h5py.h5s.UNLIMITED, 3))
        unlimited.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (8, 3), (8, 3))
        space = h5py.h5s.create_simple((8, 3))
        rules = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        rules.set_virtual(unlimited, source.encode(), inside.encode(), space)
        whole = h5py.h5s.create_simple((0, 3), (h5py.h5s.UNLIMITED, 3))
        h5py.h5d.create(h5.id, b"x", h5py.h5t.NATIVE_DOUBLE, whole, rules)

    return made(file, fill)


LINKS = {
    "external": (lambda h5: h5.__setitem__("x", h5py.ExternalLink("b.h5", "/y")), "external link to '/y' in the file"),
    "external on the way": (
        lambda h5: (h5.__setitem__("g", h5py.ExternalLink("b.h5", "/")), h5.__setitem__("x", h5py.SoftLink("g/x"))),
        "external link to '/' in the file b.h5",
    ),
    "dangling": (lambda h5: h5.__setitem__("x", h5py.SoftLink("/gone")), "soft link to '/gone', which is not there"),
    "ring": (
        lambda h5: (h5.__setitem__("x", h5py.SoftLink("y")), h5.__setitem__("y", h5py.SoftLink("x"))),
        "soft link that leads to more than 16 others",
    ),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_that_lead_out_or_nowhere(tmp_path: Path, kind: str) -> None:
    made(tmp_path / "b.h5", lambda h5: h5.create_dataset("y", data=VALUES))
    fill, words = LINKS[kind]
    assert words in told(made(tmp_path / "a.h5", fill))


def test_soft_links_inside_the_file_are_followed(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5["deep/er/values"] = VALUES
        h5["x"], h5["deep/also"] = h5py.SoftLink("/deep/also/values"), h5py.SoftLink("./er")

    np.testing.assert_array_equal(read(made(tmp_path / "a.h5", fill)), VALUES)


def test_a_link_elsewhere_in_the_file_does_not_matter(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5["x"], h5["other"], h5["names"] = VALUES, h5py.ExternalLink("gone.h5", "/y"), ["of", "any length"]

    np.testing.assert_array_equal(read(made(tmp_path / "a.h5", fill)), VALUES)


def test_values_in_another_file_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0:root:/root:/bin/bash\n" * 8)

    def fill(h5: h5py.File) -> None:
        h5.create_dataset("x", (256,), "u1", external=[(str(secret), 0, 256)])

    assert f"keeps its values in another file ({secret})" in told(made(tmp_path / "a.h5", fill))


def test_virtual_datasets_of_their_own_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("a.h5", "b.h5"):
        made(folder / name, lambda h5: h5.create_dataset("x", data=VALUES))
    made(folder / "below" / "c.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    names = ["a.h5", str(folder / "b.h5"), "below/c.h5", "./below/../a.h5", "/gone/elsewhere/b.h5"]
    file = virtual(folder / "all.h5", names)
    np.testing.assert_array_equal(read(file), np.concatenate([VALUES] * 5))
    # found by a symbolic link, its folder is still its own
    (tmp_path / "link.h5").symlink_to(file)
    np.testing.assert_array_equal(read(tmp_path / "link.h5"), np.concatenate([VALUES] * 5))


@pytest.mark.parametrize("source", ["../out.h5", "below/../../out.h5", "ABSOLUTE", "link.h5", "linked/out.h5"])
def test_virtual_datasets_of_other_folders_are_refused(tmp_path: Path, source: str) -> None:
    out = made(tmp_path / "out.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "link.h5").symlink_to(out)
    (folder / "linked").symlink_to(tmp_path)
    file = virtual(folder / "all.h5", [str(out) if source == "ABSOLUTE" else source])
    assert "which is outside of its own folder" in told(file)


def test_patterns_of_virtual_datasets(tmp_path: Path) -> None:
    for number in range(3):
        made(tmp_path / "data" / f"part-{number}.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    file = patterned(tmp_path / "data" / "all.h5", "part-%b.h5")
    np.testing.assert_array_equal(read(file), np.concatenate([VALUES] * 3))
    made(tmp_path / "out-0.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    made(tmp_path / "out-1.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    assert "outside" in told(patterned(tmp_path / "data" / "bad.h5", "../out-%b.h5"))
    (tmp_path / "data" / "linked-0.h5").symlink_to("part-0.h5")
    (tmp_path / "data" / "linked-1.h5").symlink_to("../out-1.h5")
    assert "outside" in told(patterned(tmp_path / "data" / "worse.h5", "linked-%b.h5"))


def test_what_a_source_leads_to_is_refused_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(192))
    made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", (8, 3), "f8", external=[(str(secret), 0, 192)]))
    with pytest.raises(DataError, match=r"a\.h5: 'x' keeps its values in another file"):
        check_data([virtual(tmp_path / "all.h5", ["a.h5"])], ["x"])
    made(tmp_path / "b.h5", lambda h5: h5.__setitem__("x", h5py.ExternalLink("/etc/x.h5", "x")))
    with pytest.raises(DataError, match=r"b\.h5: 'x' is, or lies behind, an external link"):
        check_data([virtual(tmp_path / "all.h5", ["b.h5"])], ["x"])


def test_virtual_datasets_in_a_ring(tmp_path: Path) -> None:
    virtual(tmp_path / "b.h5", ["a.h5"])
    with pytest.raises(DataError, match="takes rows from itself"):
        check_data([virtual(tmp_path / "a.h5", ["b.h5"])], ["x"])
    with pytest.raises(DataError, match="takes rows from itself"):
        check_data([virtual(tmp_path / "c.h5", ["."])], ["x"])


def test_a_source_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in told(virtual(tmp_path / "all.h5", ["pipe"]))


def test_what_is_no_regular_file(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        listening.bind("socket")
        for file in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
            assert "is not a regular file" in told(file)


@pytest.mark.parametrize(
    "dtype", [h5py.string_dtype(), h5py.vlen_dtype(np.int32), h5py.ref_dtype, h5py.regionref_dtype]
)
def test_types_that_point_elsewhere(tmp_path: Path, dtype: np.dtype) -> None:
    file = made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", (4,), dtype))
    assert "expected integers or floating-point numbers" in told(file)


SIZES = {
    "sample": ({"shape": (4, 1 << 28, 3), "chunks": (1, 4096, 3)}, "a sample of 'x' has 3,221,225,472 bytes"),
    "chunk": ({"shape": (1 << 20, 1 << 10), "chunks": (1 << 19, 1 << 10)}, "a chunk of 'x' has 2,147,483,648 bytes"),
    "all of it": ({"shape": (1 << 50, 4), "chunks": (1 << 10, 4)}, "far more than a file of"),
    "beyond 64 bit": ({"shape": (1 << 62, 1 << 20), "chunks": (1, 1 << 10)}, "far more than a file of"),
}


@pytest.mark.parametrize("kind", SIZES)
def test_sizes_that_nobody_can_read(tmp_path: Path, kind: str) -> None:
    layout, words = SIZES[kind]
    assert words in told(made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", dtype="f4", **layout)))


def test_values_behind_the_end_of_the_file(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5["y"] = VALUES
        h5["x"] = VALUES

    file = made(tmp_path / "a.h5", fill)
    with h5py.File(file) as h5:
        offset = h5["x"].id.get_offset()
    content = bytearray(file.read_bytes())
    at = content.index(offset.to_bytes(8, "little"))
    content[at : at + 8] = (len(content) - 100).to_bytes(8, "little")
    file.write_bytes(content)
    assert "it is damaged" in told(file)


def test_a_chunk_behind_the_end_of_the_file(tmp_path: Path) -> None:
    file = made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", data=VALUES, chunks=(4, 3)))
    with h5py.File(file) as h5:
        offset = h5["x"].id.get_chunk_info(1).byte_offset
    content = bytearray(file.read_bytes())
    at = content.index(offset.to_bytes(8, "little"))
    content[at : at + 8] = (len(content) - 8).to_bytes(8, "little")
    file.write_bytes(content)
    with pytest.raises(DataError, match="a chunk of 'x' lies behind the end of the file"):
        check_data([file], ["x"])


BOMBS = {
    "gzip": {"chunks": (8, 3), "compression": "gzip"},
    "shuffle, gzip": {"chunks": (8, 3), "compression": "gzip", "shuffle": True},
    "gzip, fletcher32": {"chunks": (8, 3), "compression": "gzip", "fletcher32": True},
    "gzip across samples": {"chunks": (8, 2), "compression": "gzip"},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_chunk_that_unpacks_to_more_than_it_holds(tmp_path: Path, kind: str) -> None:
    """32 MiB from 32 KiB: found without the memory being filled."""
    bomb = zlib.compress(bytes(32 << 20), 9)

    def fill(h5: h5py.File) -> None:
        stored = h5.create_dataset("x", data=VALUES, **BOMBS[kind])
        stored.id.write_direct_chunk((0, 0), bomb + bytes(4) * ("fletcher" in kind))

    rows = open_rows(made(tmp_path / "a.h5", fill), "x")
    before = peak()
    with pytest.raises(DataError, match="bytes holds more than"):
        rows.read_into(0, np.empty((8, 3)))
    assert peak() - before < 16 << 20


OTHERS = {
    "Blosc": ({"cname": "lz4"}, 4, "little", 4),
    "Blosc with zstd": ({"cname": "zstd"}, 4, "little", 4),
    "LZ4": ({}, 0, "big", 8),
    "Bitshuffle": ({}, 0, "big", 8),
    "Bitshuffle with zstd": ({"cname": "zstd"}, 0, "big", 8),
    "Bitshuffle with none": ({"cname": "none"}, None, "", 0),
    "Zstd": ({}, 6, "little", 2),
}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", OTHERS)
def test_chunks_of_other_filters_that_say_another_size(tmp_path: Path, kind: str, shuffle: bool) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    options, at, order, width = OTHERS[kind]
    values = np.arange(4000.0).reshape(100, 40)

    def fill(h5: h5py.File) -> None:
        way = getattr(hdf5plugin, kind.partition(" ")[0])(**options)
        h5.create_dataset("x", data=values, chunks=(10, 40), shuffle=shuffle, **way)

    file = made(tmp_path / "a.h5", fill)
    np.testing.assert_array_equal(read(file), values)
    if at is None:
        return
    for change in (-64, 64):
        with h5py.File(file, "r+") as h5:
            mask, stored = h5["x"].id.read_direct_chunk((10, 0))
            field = int.from_bytes(stored[at : at + width], order) + change
            changed = stored[:at] + field.to_bytes(width, order) + stored[at + width :]
            h5["x"].id.write_direct_chunk((10, 0), changed, mask)
        rows = open_rows(file, "x")
        with pytest.raises(DataError, match="a chunk of 3,200 bytes holds (more than 3,200|3,136)"):
            rows.read_into(0, np.empty((100, 40)))
        rows.close()
        with h5py.File(file, "r+") as h5:
            h5["x"].id.write_direct_chunk((10, 0), stored, mask)


SHORT = {
    "gzip": ({"compression": "gzip"}, zlib.compress(bytes(16)), "bytes holds 16"),
    "gzip across samples": ({"chunks": (8, 2), "compression": "gzip"}, zlib.compress(bytes(16)), "bytes holds 16"),
    "shuffle": ({"shuffle": True}, bytes(16), "16 bytes stored, which does not go with its 192"),
    "fletcher32": ({"fletcher32": True}, b"abc", "3 bytes stored, which does not go with its 192"),
}


@pytest.mark.parametrize("kind", SHORT)
def test_a_chunk_that_holds_less_is_not_filled_from_memory(tmp_path: Path, kind: str) -> None:
    """HDF5 itself delivers what lay in its memory, or crashes."""
    layout, short, words = SHORT[kind]

    def fill(h5: h5py.File) -> None:
        stored = h5.create_dataset("x", data=VALUES, **{"chunks": (8, 3), **layout})
        stored.id.write_direct_chunk((0, 0), short)

    rows = open_rows(made(tmp_path / "a.h5", fill), "x")
    with pytest.raises(DataError, match=words):
        rows.read_into(0, np.empty((8, 3)))


def test_partly_used_chunks_stored_without_filters_are_read(tmp_path: Path) -> None:
    """HDF5 can leave the filters out of chunks that stick out of the shape, and does not say so with the chunk."""
    library = next(Path(h5py.__file__).parents[1].glob("h5py.libs/libhdf5-*"), None)
    if library is None:
        pytest.skip("this h5py brings no HDF5 of its own")
    hdf5 = ctypes.CDLL(str(library))

    def fill(h5: h5py.File) -> None:
        rules = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        rules.set_chunk((5, 3))
        rules.set_fletcher32()
        assert hdf5.H5Pset_chunk_opts(ctypes.c_int64(rules.id), ctypes.c_uint(2)) >= 0  # h5py has no name for it
        space = h5py.h5s.create_simple((8, 3))
        h5py.h5d.create(h5.id, b"x", h5py.h5t.NATIVE_DOUBLE, space, rules)
        h5["x"][...] = VALUES

    np.testing.assert_array_equal(read(made(tmp_path / "a.h5", fill, libver="latest")), VALUES)


def peak() -> int:
    """Bytes that this process has held at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def test_a_chunk_that_stores_more_than_it_holds(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5.create_dataset("x", data=VALUES, chunks=(8, 3), compression="gzip")
        h5["x"].id.write_direct_chunk((0, 0), bytes(1 << 20))

    with pytest.raises(DataError, match="has 1,048,576 bytes stored, which does not go with its 192"):
        check_data([made(tmp_path / "a.h5", fill)], ["x"])


def test_control_characters_of_a_file_come_out_escaped(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5["\x1b[2Jx\ny\u202e"] = VALUES
        h5["soft"] = h5py.SoftLink("\x1b[31m\r\n")

    file = made(tmp_path / "a\x1b[2J.h5", fill)
    for name in ("gone", "soft"):
        with pytest.raises(DataError) as caught:
            check_data([file], [name])
        assert str(caught.value).isprintable()
        with pytest.raises(DataError) as caught:
            open_rows(file, name)
        assert str(caught.value).isprintable()


def test_all_bad_files_are_told_and_good_ones_pass(tmp_path: Path) -> None:
    good = [made(tmp_path / f"{n}.h5", lambda h5: h5.create_dataset("x", data=VALUES)) for n in range(3)]
    bad = [made(tmp_path / f"bad{n}.h5", lambda h5: h5.__setitem__("x", h5py.SoftLink("no"))) for n in range(2)]
    check_data(good, ["x"])
    with pytest.raises(DataError) as caught:
        check_data([good[0], bad[0], good[1], bad[1], good[2]], ["x"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [str(path) for path in bad]


def test_a_heap_without_an_end(tmp_path: Path, monkeypatch) -> None:
    """HDF5 2.0 stays for ever with an object of a heap that has no size; found among mutated files."""
    monkeypatch.setattr(header_walk, "CPU_S", 1)
    made(tmp_path / "b.h5", lambda h5: h5.create_dataset("x", data=VALUES))
    file = virtual(tmp_path / "a.h5", ["b.h5"])
    content = bytearray(file.read_bytes())
    size = content.index(b"GCOL") + 24  # of the first object; what follows it is then among zeros
    content[size : size + 8] = (2048).to_bytes(8, "little")
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5: is damaged: HDF5 did not come to an end"):
        check_data([file], ["x"])
    with pytest.raises(DataError, match=r"a\.h5: is damaged: HDF5 did not come to an end"):
        describe(file)


# What a damaged header makes HDF5 do, done to one file in the child itself.
HARM = {
    "endless": ("while True: pass", "did not come to an end"),
    "asleep": ("import time; time.sleep(60)", "did not come to an end"),
    "crash": ("import os; os.kill(os.getpid(), 11)", "crashes on its headers (SIGSEGV)"),
    "abort": ("import os; os.abort()", "crashes on its headers (SIGABRT)"),
    "memory": ("x = bytearray(3 << 30)", "want more than 1024 MiB"),
}


@pytest.mark.parametrize("kind", HARM)
def test_a_header_that_harms_hdf5_ends_the_child_alone(tmp_path: Path, monkeypatch, kind: str) -> None:
    deed, words = HARM[kind]
    begin, _, end = header_walk._CODE.rpartition("from app")
    harm = f"""
from app.storage import header_walk
header_walk.WALL_FACTOR = 2
good = header_walk._WAYS["data"]
def way(task):
    if "bad" in task.path.name:
        {deed}
    return good(task)
header_walk._WAYS["data"] = way
"""
    monkeypatch.setattr(header_walk, "_CODE", f"{begin}{harm}\nfrom app{end}")
    monkeypatch.setattr(header_walk, "CPU_S", 1)
    files = [tmp_path / name for name in ("a.h5", "bad.h5", "c.h5", "worse.h5")]
    for file in files:
        made(file, lambda h5: h5.create_dataset("x", data=VALUES))
    files[3].write_bytes(b"no HDF5")
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        check_data(files, ["x"])
    assert time.monotonic() - begun < 15
    damaged, other = caught.value.problems
    assert damaged.startswith(f"{files[1]}: is damaged: ")
    assert words in damaged
    assert "copy it again" in damaged
    assert other.startswith(f"{files[3]}: is not an HDF5 file")


def test_very_many_damaged_files_do_not_cost_a_process_each(tmp_path: Path, monkeypatch) -> None:
    begin, _, end = header_walk._CODE.rpartition("from app")
    harm = "import os\nfrom app.storage import header_walk\nheader_walk._WAYS['data'] = lambda task: os.abort()\n"
    monkeypatch.setattr(header_walk, "_CODE", f"{begin}{harm}\nfrom app{end}")
    monkeypatch.setattr(header_walk, "DEATHS", 2)
    with pytest.raises(DataError) as caught:
        check_data([tmp_path / f"{number}.h5" for number in range(9)], ["x"])
    assert len(caught.value.problems) == 3
    assert "2.h5: was not looked at after 2 damaged files, nor were 6 more" in caught.value.problems[2]


def test_a_child_that_cannot_start_is_the_machines_fault(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(header_walk, "_CODE", "raise ImportError('no h5py here')")
    with pytest.raises(MachineError, match="ImportError: no h5py here"):
        check_data([made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", data=VALUES))], ["x"])


def test_the_child_is_no_rank_of_this_job(tmp_path: Path, monkeypatch) -> None:
    """An MPI or Slurm would take it for one by these variables."""
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("PMIX_RANK", "0")
    harm = (
        "import os, sys; sys.exit(' '.join(n for n in os.environ if n.startswith(('OMPI', 'PMI', 'SLURM'))) or 'none')"
    )
    monkeypatch.setattr(header_walk, "_CODE", harm)
    with pytest.raises(MachineError, match=r"\(none\)"):
        check_data([tmp_path / "a.h5"], ["x"])
