"""Values in another type, and which of them it cannot hold."""

import numpy as np

from app.data.preparing.records import is_text


def cast_values(values: np.ndarray, wanted: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    """The values (n, ...) in the wanted type, and of which records (n,) bool it cannot hold one; None: of none.

    Numbers may be rounded to a shorter float; a whole number type holds whole numbers in its range, bool 0 and 1. What
    is not finite stays so in a float type, where it is found later.
    """
    if is_text(values):
        values, unread = _numbers(values)
    else:
        unread = np.zeros(values.shape, bool)
    if values.dtype == wanted and not unread.any():
        return values, None
    with np.errstate(all="ignore"):
        cast = values.astype(wanted)
        wrong = unread | ~_holds(values, cast, wanted)
    return cast, wrong.any(axis=tuple(range(1, wrong.ndim)))


def _holds(values: np.ndarray, cast: np.ndarray, wanted: np.dtype) -> np.ndarray:
    if wanted.kind == "b":
        return (values == 0) | (values == 1)
    if wanted.kind == "f":
        return np.isfinite(cast) | ~np.isfinite(values) if values.dtype.kind == "f" else np.isfinite(cast)
    if values.dtype.kind == "b":
        return np.ones(values.shape, bool)
    limits = np.iinfo(wanted)
    if values.dtype.kind == "f":  # the upper limit + 1 is a power of two, exact in every float that reaches it
        inside = (values >= float(limits.min)) & (values < float(limits.max + 1))
        return inside & (values == np.rint(values))
    return (values >= limits.min) & (values <= limits.max)


def _numbers(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64, or int64 where all are whole, and which texts are no numbers."""
    known, place = np.unique(texts, return_inverse=True)
    found, unread = np.zeros(len(known)), np.zeros(len(known), bool)
    for number, text in enumerate(known):
        try:
            found[number] = float(text) if str(text).strip() else np.nan
        except ValueError:
            unread[number] = True
    place = place.reshape(texts.shape)
    whole = _whole(known) if not unread.any() else None
    return (found if whole is None else whole)[place], unread[place]


def _whole(texts: np.ndarray) -> np.ndarray | None:
    """Whole numbers beyond 2^53 would be rounded as float64."""
    try:
        return np.array([int(text) for text in texts], np.int64)
    except (ValueError, OverflowError):
        return None
