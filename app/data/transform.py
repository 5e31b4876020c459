"""From stored samples to what a network takes: pure functions of one microbatch, applied when it is used."""

from dataclasses import dataclass

import numpy as np
import torch

from app.data.statistics import Statistics


@dataclass(frozen=True)
class Transform:
    """What is done to a microbatch of stored samples (M, ...), in this order. Collective over: none.

    layout          "none", or "channels_last": images (H, W, C) become (C, H, W)
    add_channel     a sample (H, W) becomes (1, H, W)
    statistics      standardise with these constants: (x - mean) / std, a std of 0 counts as 1; None: leave as it is
    tokens          inputs are token numbers: int64, not standardised
    classification  targets are class labels: int64 (M,), or (M, T) of T positions; otherwise float32 as they are
    stored          inputs keep the type of the file (for measuring); not standardised
    """

    layout: str = "none"
    add_channel: bool = False
    statistics: Statistics | None = None
    tokens: bool = False
    classification: bool = True
    stored: bool = False

    def sample_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a sample after the transform, from the shape in the file."""
        shape = (stored[-1], *stored[:-1]) if self.layout == "channels_last" and len(stored) > 1 else tuple(stored)
        return (1, *shape) if self.add_channel and len(shape) == 2 else shape

    def keeps(self, dtype: np.dtype) -> bool:
        """Whether `inputs_` makes the rows themselves the tensor, for rows of this type."""
        return self.stored or dtype == (np.int64 if self.tokens else np.float32)

    def inputs_(self, rows: np.ndarray) -> torch.Tensor:
        """(M, ...) as stored -> (M, *sample_shape) float32, or int64 for tokens; uses up `rows` when `keeps` says."""
        moved = torch.from_numpy(self._moved(rows))
        if not self.keeps(rows.dtype):
            wanted = torch.int64 if self.tokens else torch.float32
            moved = torch.empty(moved.shape, dtype=wanted).copy_(moved)
        if self.statistics is not None and not (self.tokens or self.stored):
            scale, shift = self._constants()
            moved.mul_(scale).add_(shift)
        if self.layout == "none" and not self.add_channel:
            return moved
        return moved.contiguous().view(len(rows), *self.sample_shape(rows.shape[1:]))

    def targets_(self, rows: np.ndarray) -> torch.Tensor:
        """(M, ...) as stored -> class labels (M,) or (M, T) int64, else (M, ...) float32; may use up `rows`."""
        if self.classification:
            labels = rows.reshape(-1) if rows.shape[1:] == (1,) else rows
            return torch.from_numpy(labels.astype(np.int64, copy=False))
        return torch.from_numpy(rows.astype(np.float32, copy=False))

    def _moved(self, rows: np.ndarray) -> np.ndarray:
        """(M, ..., C) -> (M, C, ...), a view."""
        return np.moveaxis(rows, -1, 1) if self.layout == "channels_last" and rows.ndim > 2 else rows

    def _constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift, so that (x - mean) / std is x * scale + shift; kept, because each microbatch needs them."""
        kept: tuple[torch.Tensor, torch.Tensor] | None = self.__dict__.get("_kept")
        if kept is None:
            assert self.statistics is not None
            std = np.where(self.statistics.std == 0, np.float32(1), self.statistics.std).astype(np.float64)
            pair = (1 / std, -self.statistics.mean.astype(np.float64) / std)
            scale, shift = (
                torch.from_numpy(np.ascontiguousarray(self._moved(a.astype(np.float32)[None])[0])) for a in pair
            )
            kept = (scale, shift)
            self.__dict__["_kept"] = kept
        return kept
