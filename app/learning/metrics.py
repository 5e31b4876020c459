"""Metrics as sums and counts, added over ranks by the caller, so that the parts of any size weigh right.

Where samples have several positions T, each position counts as one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.errors import DataError, NumbersError

CONFUSION_CLASSES = 1024  # at most, for a matrix of them; a language model's would not fit the memory


class Classification:
    """Accuracy, top-k accuracies and the confusion matrix of K classes; sums are int64."""

    def __init__(self, classes: int, top_k: Sequence[int] = (5,)) -> None:
        """top_k: the numbers of likeliest classes among which a hit counts; those of K or more are left out."""
        self.classes = classes
        self.top_k = tuple(sorted({k for k in top_k if 1 < k < classes}))
        self._has_confusion = classes <= CONFUSION_CLASSES
        self._samples = 0
        self._hits = np.zeros(len(self.top_k), np.int64)
        # by true class: predicted classes, or only whether it was another one or the right one
        self._table = np.zeros((classes, classes if self._has_confusion else 2), np.int64)

    def add_(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a microbatch: outputs (M, K) or (M, T, K) of any float type, targets (M,) or (M, T) of class numbers.

        Raises NumbersError for outputs that are not finite, DataError for a class that the network does not have.
        """
        samples = len(outputs)
        outputs, targets = _finite(outputs).detach().reshape(-1, outputs.shape[-1]), targets.reshape(-1).long()
        if len(targets) == 0:
            return
        _check_classes(targets, self.classes)
        predicted, columns = outputs.argmax(1), self._table.shape[1]
        pairs = targets * columns + (predicted if self._has_confusion else predicted == targets)
        counts = torch.bincount(pairs, minlength=self._table.size)
        self._samples += samples
        self._table += counts.cpu().numpy().reshape(self._table.shape)
        if self.top_k:
            better = (outputs > outputs.gather(1, targets[:, None])).sum(1)
            self._hits += np.array([int((better < k).sum()) for k in self.top_k], np.int64)

    def sums(self) -> np.ndarray:
        """All counts as one new flat array, to be added over ranks: (1 + len(top_k) + K * columns,) int64.

        K columns, or 2 where K is more than CONFUSION_CLASSES.
        """
        return np.concatenate([[self._samples], self._hits, self._table.reshape(-1)])

    def load_(self, sums: np.ndarray) -> None:
        """Replace the counts by the sums over ranks."""
        samples, hits, table = np.split(sums.astype(np.int64), [1, 1 + len(self.top_k)])
        self._samples, self._hits, self._table = int(samples[0]), hits, table.reshape(self._table.shape)

    def result(self) -> dict[str, Any]:
        """samples, accuracy, balanced_accuracy, top{k}_accuracy, confusion (true class, predicted class) int64.

        Shares of nothing are nan; balanced accuracy is over the classes that occur. `positions` where they are not the
        samples; no confusion of more than CONFUSION_CLASSES.
        """
        rows, right = self._table.sum(1), np.diagonal(self._table) if self._has_confusion else self._table[:, 1]
        positions = int(rows.sum())
        recalls = right[rows > 0] / rows[rows > 0]
        return {
            "samples": self._samples,
            "accuracy": float(right.sum() / positions) if positions else float("nan"),
            "balanced_accuracy": float(recalls.mean()) if positions else float("nan"),
            **{
                f"top{k}_accuracy": float(hits / positions) if positions else float("nan")
                for k, hits in zip(self.top_k, self._hits, strict=True)
            },
            **_positions(self._samples, positions),
            **({"confusion": self._table.copy()} if self._has_confusion else {}),
        }


class Regression:
    """RMSE, mean absolute error and R2 of F outputs, over all positions where there are several; sums are float64."""

    def __init__(self, outputs: int, shift: np.ndarray | Sequence[float] | float = 0.0) -> None:
        """shift: the training mean of the targets, (F,) or one number; keeps R2 exact where targets are far from 0."""
        self.outputs = outputs
        self.shift = np.broadcast_to(np.asarray(shift, np.float64).reshape(-1), (outputs,))
        # rows: squared errors, absolute errors, shifted targets, their squares
        self._sums = np.zeros((4, outputs))
        self._samples = self._positions = 0

    def add_(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a microbatch: outputs (M, F), (M, ...) of F elements, or (M, T, F); targets of as many elements.

        Raises NumbersError for outputs that are not finite.
        """
        shape = (-1, self.outputs)
        found = _finite(outputs).detach().reshape(shape).cpu().double().numpy()
        wanted = targets.detach().reshape(shape).cpu().double().numpy()
        errors, shifted = found - wanted, wanted - self.shift
        self._sums += [(errors**2).sum(0), np.abs(errors).sum(0), shifted.sum(0), (shifted**2).sum(0)]
        self._samples += len(outputs)
        self._positions += len(errors)

    def sums(self) -> np.ndarray:
        """All sums as one new flat array, to be added over ranks: (2 + 4 * F,) float64."""
        return np.concatenate([[self._samples, self._positions], self._sums.reshape(-1)])

    def load_(self, sums: np.ndarray) -> None:
        """Replace the sums by those over ranks."""
        self._samples, self._positions = int(sums[0]), int(sums[1])
        self._sums = sums[2:].astype(np.float64).reshape(4, self.outputs)

    def result(self) -> dict[str, Any]:
        """samples, rmse over all elements, mae, r2 (mean over outputs), and (F,) float64 each: rmses, maes, r2s.

        R2 of constant targets is 1 where the outputs are exact, else 0, as in scikit-learn; of nothing, nan.
        `positions` where they are not the samples.
        """
        positions = self._positions or float("nan")
        squares, absolutes, shifted, shifted_squares = self._sums
        # The rounding of a constant target's variance must not pass for a variance.
        spread = shifted_squares - shifted**2 / positions
        varies = spread > 1e-12 * shifted_squares
        r2s = np.where(varies, 1 - squares / np.where(varies, spread, 1.0), np.where(squares > 0, 0.0, 1.0))
        r2s = r2s if self._positions else np.full(self.outputs, np.nan)
        return {
            "samples": self._samples,
            "rmse": float(np.sqrt((squares / positions).mean())),
            "mae": float((absolutes / positions).mean()),
            "r2": float(r2s.mean()),
            **_positions(self._samples, self._positions),
            "rmses": np.sqrt(squares / positions),
            "maes": absolutes / positions,
            "r2s": r2s,
        }


def _positions(samples: int, positions: int) -> dict[str, int]:
    return {} if positions == samples else {"positions": positions}


def _finite(outputs: Tensor) -> Tensor:
    wrong = ~torch.isfinite(outputs)
    if wrong.any():
        raise NumbersError(
            f"{int(wrong.sum())} of {outputs.numel()} outputs of the network are not finite; "
            f"its training has diverged: try a lower rate, warm-up or clip_norm"
        )
    return outputs


def _check_classes(targets: Tensor, classes: int) -> None:
    lowest, highest = int(targets.min()), int(targets.max())
    if lowest < 0 or highest >= classes:
        found = lowest if lowest < 0 else highest
        raise DataError(f"class {found} among the targets, but the network has {classes} outputs: 0 to {classes - 1}")
