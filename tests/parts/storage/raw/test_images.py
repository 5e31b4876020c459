"""Images: of one size and mode in the order of their names, classes by folders; what cannot be used is told."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import DataError
from app.storage.raw import images, pieces, read

RANDOM = np.random.default_rng(5)


def made(file: Path, values: np.ndarray, **settings: object) -> np.ndarray:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file, **settings)
    return values


def colour(height: int = 6, width: int = 5) -> np.ndarray:
    return RANDOM.integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_a_folder_of_classes(tmp_path: Path) -> None:
    kept = {
        f"{kind}/{n}.png": made(tmp_path / kind / f"{n}.png", colour()) for kind in ("cat", "dog") for n in range(4)
    }
    made(tmp_path / ".hidden" / "x.png", colour())
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    parts = pieces([tmp_path], 3 * 90)
    assert [(piece.start, piece.stop) for piece in parts] == [(0, 3), (3, 6), (6, 8)]
    found = [read(piece) for piece in parts]
    names = [name for part in found for name in part.columns["names"].tolist()]
    assert names == sorted(kept)
    assert [name for part in found for name in part.columns["classes"].tolist()] == ["cat"] * 4 + ["dog"] * 4
    np.testing.assert_array_equal(np.concatenate([part.columns["images"] for part in found]), [kept[n] for n in names])


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    for n in range(6):
        made(tmp_path / f"{n}.png", colour())
    made(tmp_path / "1.png", colour(7, 5))
    made(tmp_path / "2.png", colour()[..., 0])
    (tmp_path / "3.png").write_bytes((tmp_path / "0.png").read_bytes()[:-40])
    (tmp_path / "4.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / "6.png")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    made(outside, colour())
    (tmp_path / "7.png").symlink_to(outside)
    (tmp_path / "8.png").symlink_to(tmp_path / "5.png")
    (piece,) = pieces([tmp_path], 1 << 20)
    found = read(piece)
    assert found.columns["names"].tolist() == ["0.png", "5.png", "8.png"]
    assert found.rows.tolist() == [0, 5, 8]
    why = {bad.row: bad.why for bad in found.bad}
    assert why[1] == "1.png is 5 x 7 RGB, expected 5 x 6 RGB"
    assert why[2] == "2.png is 5 x 6 L, expected 5 x 6 RGB"
    assert why[3].startswith("3.png cannot be decoded")
    assert why[4] == "4.png is no image, or damaged"
    assert why[6] == "6.png is not a regular file"
    assert why[7] == "7.png is a link out of the folder"


def test_images_that_are_named(tmp_path: Path) -> None:
    kept = [made(tmp_path / f"{n}.png", colour()[..., 0]) for n in range(7)]
    made(tmp_path / "3.bmp", colour())
    parts = pieces([tmp_path / f"{n}.png" for n in (1, 2, 3, 6)], 1 << 20)
    found = [read(piece) for piece in parts]
    assert [name for part in found for name in part.columns["names"].tolist()] == ["1.png", "2.png", "3.png", "6.png"]
    np.testing.assert_array_equal(
        np.concatenate([part.columns["images"] for part in found]), [kept[n] for n in (1, 2, 3, 6)]
    )
    assert set(found[0].columns) == {"images", "names"}


def test_images_that_are_named_in_folders_of_classes(tmp_path: Path) -> None:
    for name in ("cat/1", "cat/2", "dog/1", "dog/extra/9"):
        made(tmp_path / f"{name}.png", colour())
    parts = pieces(sorted(tmp_path.glob("*/*.png")), 1 << 20)
    assert len(parts) == 1
    found = read(parts[0])
    assert found.columns["names"].tolist() == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert found.columns["classes"].tolist() == ["cat", "cat", "dog"]


MODES = {
    "grey.png": (RANDOM.integers(0, 255, (4, 3)).astype(np.uint8), "u1"),
    "alpha.png": (RANDOM.integers(0, 255, (4, 3, 4)).astype(np.uint8), "u1"),
    "deep.png": (RANDOM.integers(0, 65535, (4, 3)).astype(np.uint16), "u2"),
    "deep.tif": (RANDOM.integers(0, 65535, (4, 3)).astype(np.uint16), "u2"),
    "real.tiff": (RANDOM.normal(size=(4, 3)).astype(np.float32), "f4"),
    "colour.BMP": (RANDOM.integers(0, 255, (4, 3, 3)).astype(np.uint8), "u1"),
    "black.png": (RANDOM.integers(0, 2, (4, 3)) == 1, "u1"),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(tmp_path: Path, name: str) -> None:
    values, dtype = MODES[name]
    made(tmp_path / name, values)
    (piece,) = pieces([tmp_path / name], 1 << 20)
    found = read(piece).columns["images"]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[0], values.astype(np.uint8) * 255 if values.dtype == np.bool_ else values)


def test_palettes_become_colours_and_jpegs_are_near(tmp_path: Path) -> None:
    smooth = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    Image.fromarray(smooth).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.gif")
    made(tmp_path / "b.jpg", smooth)
    (piece,) = pieces([tmp_path], 1 << 20)
    found = read(piece).columns["images"].astype(int)
    assert found.shape == (2, 16, 16, 3)
    assert abs(found - smooth).max() <= 4


def test_images_made_to_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "0.png", colour(100, 100))
    monkeypatch.setattr(images, "PIXELS", 9_999)
    with pytest.raises(DataError, match=r"0\.png cannot be decoded \(10,000 pixels, expected at most 9,999"):
        pieces([tmp_path], 1 << 20)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=f"is a folder without images.*for files of another format {tmp_path.name}/\\*"):
        pieces([tmp_path], 1 << 20)
