"""Savitzky–Golay smoothing: each point becomes the value there of a polynomial through its neighbours."""

from collections.abc import Sequence

import numpy as np


def savitzky_golay(
    y: Sequence[float], *, window: int = 7, order: int = 3, x: Sequence[float] | None = None
) -> np.ndarray:
    """The smoothed curve; a polynomial up to this order comes back as it is, ends included.

    The fit is by least squares over the `window` nearest points, at their true places where `x` gives these. Where
    there are too few points for anything but the curve itself, that is the answer.
    """
    if window % 2 == 0 or window <= order:
        raise ValueError(f"window={window}: it must be odd and greater than the order, which is {order}")
    values = np.asarray(y, np.float64)
    places = np.arange(len(values), dtype=np.float64) if x is None else np.asarray(x, np.float64)
    if len(places) != len(values):
        raise ValueError(f"{len(places)} places for {len(values)} values")
    if len(values) <= order + 1:
        return values.copy()
    window = min(window, len(values))
    smoothed = np.empty_like(values)
    for index in range(len(values)):
        start = min(max(index - window // 2, 0), len(values) - window)
        part = slice(start, start + window)
        # Around the point itself and in units of the window, so that powers neither vanish nor overflow.
        away = places[part] - places[index]
        away = away / (np.abs(away).max() or 1.0)
        solution, *_ = np.linalg.lstsq(np.vander(away, order + 1, increasing=True), values[part], rcond=None)
        smoothed[index] = solution[0]
    return smoothed
