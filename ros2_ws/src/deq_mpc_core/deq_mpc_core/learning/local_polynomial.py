"""Values and derivatives of noisy samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DEGREE = 2
"""Of the local polynomial: the lowest that has no bias in the derivative at the ends of a flight, too."""


def fit_local_polynomial(t: Array, y: Array, query: Array, width: float) -> tuple[Array, Array]:
    """Least-squares polynomial of degree 2 around each query time (Savitzky-Golay for any stamps).

    Every fit takes the same number of consecutive samples, as many as fit into ``width`` [s] at the median step; they
    are centred, at the ends shifted inwards.

    Args:
        t: stamps (n,) [s], increasing. y: samples (n, c). query: times (q,) [s].

    Returns:
        Value and time derivative at ``query``, each (q, c).
    """
    step = float(np.median(np.diff(t)))
    count = min(max(round(width / step) + 1, DEGREE + 2), len(t))
    first = np.clip(np.searchsorted(t, query - 1e-9) - count // 2, 0, len(t) - count)
    window = first[:, None] + np.arange(count)
    scale = 0.5 * count * step
    powers = ((t[window] - query[:, None]) / scale)[..., None] ** np.arange(min(DEGREE, count - 1) + 1)
    gram = np.einsum("qni,qnj->qij", powers, powers)
    moment = np.einsum("qni,qnc->qic", powers, y[window])
    coefficients = np.linalg.solve(gram, moment)
    return coefficients[:, 0], coefficients[:, 1] / scale
