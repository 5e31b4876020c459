"""Which numbers of a sample are values of the same feature, and taking them out of samples."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from app.data.transform import Transform


class Features(NamedTuple):
    """Which numbers of a sample are values of the same feature: sample.reshape(before, along, after)[:, chosen, :].

    noun  what one is called: "number", "channel", "feature", "token", "class", "confidence", "value"
    """

    noun: str
    before: int
    along: int
    after: int
    chosen: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers of a sample."""
        return self.before * self.along * self.after

    @property
    def names(self) -> tuple[str, ...]:
        """For people, such as "channel 2"; one alone has no number."""
        return tuple(f"{self.noun} {number}" for number in self.chosen) if self.along > 1 else (self.noun,)

    def limited(self, most: int) -> "Features":
        """At most so many of them, evenly spaced."""
        return self._replace(chosen=tuple(self.chosen[at] for at in spaced(len(self.chosen), most)))

    def values(self, rows: np.ndarray, first: int, most: int) -> np.ndarray:
        """Values (F, N) of samples (M, ...), numbered from `first` on: about `most` a feature, but one a sample.

        Where a sample has too many, every n-th is taken, from sample to sample beginning at another place, so that all
        places are looked at equally often.
        """
        places, samples = self.before * self.after, len(rows)
        chosen = np.array(self.chosen)
        taken = max(1, min(places, most // max(1, samples)))
        if taken == places:
            table = rows.reshape(samples, self.before, self.along, self.after)
            table = table if len(chosen) == self.along else table[:, :, chosen, :]
            return np.ascontiguousarray(np.moveaxis(table, 2, 0)).reshape(len(chosen), -1)
        return rows.reshape(-1).take(self._spread(samples, first % places, taken))

    @lru_cache(maxsize=16)  # noqa: B019  a tuple of numbers, with the same few arguments batch after batch
    def _spread(self, samples: int, first: int, taken: int) -> np.ndarray:
        """Where in an array of samples the values (F, N) are of which each sample gives `taken`."""
        places, number = self.before * self.after, np.arange(samples)[:, None]
        place = (first + number + (np.arange(taken) * places) // taken) % places
        at = (number * self.before + place // self.after) * (self.along * self.after) + place % self.after
        return at.reshape(-1) + (np.array(self.chosen) * self.after)[:, None]


def input_features(stored: tuple[int, ...], transform: Transform, most: int) -> Features:
    """Of stored samples: each number of a vector, each channel of an image, each feature of a sequence; tokens are one.

    Of more than `most`, evenly spaced ones.
    """
    size = math.prod(stored)
    if transform.tokens:
        return Features("token", size, 1, 1, (0,))
    if len(stored) == 2 and transform.add_channel:
        return Features("channel", size, 1, 1, (0,))
    if len(stored) <= 1:
        return Features("number", 1, size, 1, tuple(range(size))).limited(most)
    axis = len(stored) - 1 if len(stored) == 2 or transform.layout == "channels_last" else 0
    noun = "feature" if len(stored) == 2 else "channel"
    count = stored[axis]
    found = Features(noun, math.prod(stored[:axis]), count, math.prod(stored[axis + 1 :]), tuple(range(count)))
    return found.limited(most)


def spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0..count-1, evenly spaced."""
    return list(range(count)) if count <= most else [number * count // most for number in range(most)]
