"""Metrics as sums and counts, added over ranks by the caller, so that the parts of any size weigh right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.errors import DataError, NumbersError


class Classification:
    """Accuracy, top-k accuracies and the confusion matrix of K classes; sums are int64."""

    def __init__(self, classes: int, top_k: Sequence[int] = (5,)) -> None:
        """top_k: the numbers of likeliest classes among which a hit counts; those of K or more are left out."""
        self.classes = classes
        self.top_k = tuple(sorted({k for k in top_k if 1 < k < classes}))
        self._hits = np.zeros(len(self.top_k), np.int64)
        self._confusion = np.zeros((classes, classes), np.int64)

    def add_(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a microbatch: outputs (..., K) of any float type, targets (...) of class numbers.

        Raises NumbersError for outputs that are not finite, DataError for a class that the network does not have.
        """
        outputs, targets = _rows(outputs), targets.reshape(-1).long()
        if len(targets) == 0:
            return
        _check_classes(targets, self.classes)
        pairs = targets * self.classes + outputs.argmax(1)
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self._confusion += counts.cpu().numpy().reshape(self._confusion.shape)
        if self.top_k:
            better = (outputs > outputs.gather(1, targets[:, None])).sum(1)
            self._hits += np.array([int((better < k).sum()) for k in self.top_k], np.int64)

    def sums(self) -> np.ndarray:
        """All counts as one new flat array, to be added over ranks: (len(top_k) + K * K,) int64."""
        return np.concatenate([self._hits, self._confusion.reshape(-1)])

    def load_(self, sums: np.ndarray) -> None:
        """Replace the counts by the sums over ranks."""
        self._hits = sums[: len(self.top_k)].astype(np.int64)
        self._confusion = sums[len(self.top_k) :].astype(np.int64).reshape(self._confusion.shape)

    def result(self) -> dict[str, Any]:
        """samples, accuracy, balanced_accuracy, top{k}_accuracy, confusion (true class, predicted class) int64.

        Shares of nothing are nan; balanced accuracy is over the classes that occur.
        """
        samples, diagonal = int(self._confusion.sum()), np.diagonal(self._confusion)
        rows = self._confusion.sum(1)
        recalls = diagonal[rows > 0] / rows[rows > 0]
        return {
            "samples": samples,
            "accuracy": float(diagonal.sum() / samples) if samples else float("nan"),
            "balanced_accuracy": float(recalls.mean()) if samples else float("nan"),
            **{
                f"top{k}_accuracy": float(hits / samples) if samples else float("nan")
                for k, hits in zip(self.top_k, self._hits, strict=True)
            },
            "confusion": self._confusion.copy(),
        }


class Regression:
    """RMSE, mean absolute error and R2 of F outputs; sums are float64."""

    def __init__(self, outputs: int, shift: np.ndarray | Sequence[float] | float = 0.0) -> None:
        """shift: the training mean of the targets, (F,) or one number; keeps R2 exact where targets are far from 0."""
        self.outputs = outputs
        self.shift = np.broadcast_to(np.asarray(shift, np.float64).reshape(-1), (outputs,))
        # rows: squared errors, absolute errors, shifted targets, their squares
        self._sums = np.zeros((4, outputs))
        self._samples = 0.0

    def add_(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a microbatch: outputs (M, F) or (M, ...) of F elements, targets of as many elements.

        Raises NumbersError for outputs that are not finite.
        """
        shape = (outputs.shape[0], self.outputs)
        found = _finite(outputs).detach().reshape(shape).cpu().double().numpy()
        wanted = targets.detach().reshape(shape).cpu().double().numpy()
        errors, shifted = found - wanted, wanted - self.shift
        self._sums += [(errors**2).sum(0), np.abs(errors).sum(0), shifted.sum(0), (shifted**2).sum(0)]
        self._samples += len(errors)

    def sums(self) -> np.ndarray:
        """All sums as one new flat array, to be added over ranks: (1 + 4 * F,) float64."""
        return np.concatenate([[self._samples], self._sums.reshape(-1)])

    def load_(self, sums: np.ndarray) -> None:
        """Replace the sums by those over ranks."""
        self._samples, self._sums = float(sums[0]), sums[1:].astype(np.float64).reshape(4, self.outputs)

    def result(self) -> dict[str, Any]:
        """samples, rmse over all elements, mae, r2 (mean over outputs), and (F,) float64 each: rmses, maes, r2s.

        R2 of constant targets is 1 where the outputs are exact, else 0, as in scikit-learn; of nothing, nan.
        """
        samples = self._samples or float("nan")
        squares, absolutes, shifted, shifted_squares = self._sums
        # The rounding of a constant target's variance must not pass for a variance.
        spread = shifted_squares - shifted**2 / samples
        varies = spread > 1e-12 * shifted_squares
        r2s = np.where(varies, 1 - squares / np.where(varies, spread, 1.0), np.where(squares > 0, 0.0, 1.0))
        r2s = r2s if self._samples else np.full(self.outputs, np.nan)
        return {
            "samples": int(self._samples),
            "rmse": float(np.sqrt((squares / samples).mean())),
            "mae": float((absolutes / samples).mean()),
            "r2": float(r2s.mean()),
            "rmses": np.sqrt(squares / samples),
            "maes": absolutes / samples,
            "r2s": r2s,
        }


def _rows(outputs: Tensor) -> Tensor:
    return _finite(outputs).detach().reshape(-1, outputs.shape[-1])


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
