"""Statistics of repeated flights."""

from __future__ import annotations

from math import sqrt

_Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a probability after ``successes`` in ``trials`` (Wilson's score interval).

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),   p = successes / n;
    unlike the normal approximation it is right near 0 and 1 and for few trials (Wilson, JASA 22, 1927).
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    p, z2 = successes / trials, _Z_95**2
    centre = p + z2 / (2 * trials)
    half = _Z_95 * sqrt(p * (1.0 - p) / trials + z2 / (4 * trials**2))
    scale = 1.0 + z2 / trials
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)
