"""Make inputs/digits.h5 from the digits that scikit-learn ships; the same bytes every time.

python tests/references/make_digits.py inputs/digits.h5
"""

import sys
from pathlib import Path

import h5py
import numpy as np

ATTRIBUTES = {
    "source": "UCI Machine Learning Repository, Optical Recognition of Handwritten Digits, the test set of 1,797 8x8 "
    "images (values 0 to 16), as shipped by scikit-learn (sklearn.datasets.load_digits). https://archive.ics.uci.edu/dataset/80",
    "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "citation": "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning "
    "Repository. https://doi.org/10.24432/C50P49",
}


def make(file: Path) -> None:
    """Write the images (1797, 8, 8) uint8 and the labels (1797,) int64."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with h5py.File(file, "w", libver="earliest") as h5:
        images = digits.images.astype(np.uint8)
        assert (images == digits.images).all()
        h5.create_dataset("images", data=images, chunks=(64, 8, 8), track_times=False)
        h5.create_dataset("labels", data=digits.target.astype(np.int64), chunks=(64,), track_times=False)
        for name, text in ATTRIBUTES.items():
            h5.attrs[name] = text


if __name__ == "__main__":
    make(Path(sys.argv[1]))
