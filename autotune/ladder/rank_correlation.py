"""How well the lower rungs rank configurations, measured on those that reach the top whatever their rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ENOUGH = 5
"""The number of finished configurations of the random share below which there is no correlation."""
GOOD, POOR = 0.7, 0.4
"""Rank correlations from which a rung is trusted, and below which it is not."""
_PRIOR, _PRIOR_WEIGHT = 0.85, 4.0
"""The prior rank correlation of a rung, and its weight in configurations.

Tables of real curves had 0.84 to 0.94 at a tenth of the full budget. Without a prior, chance in five configurations
would change the promoted share.
"""


@dataclass(frozen=True)
class RungTrust:
    """How well one rung ranks configurations.

    Args:
        fidelity: of the rung.
        correlation: Spearman's rank correlation between the values on the rung and at the top, the least of the
            uncertain objectives; NaN where fewer than `ENOUGH` configurations were measured.
        count: configurations measured.
        share: the share of the rung that is promoted, larger than the ladder's where the correlation is low.
    """

    fidelity: float
    correlation: float
    count: int
    share: float

    @property
    def verdict(self) -> str:
        """`trusted`, `doubtful`, `not trusted` or `not measured`."""
        if math.isnan(self.correlation):
            return "not measured"
        if self.correlation >= GOOD:
            return "trusted"
        return "doubtful" if self.correlation >= POOR else "not trusted"


@dataclass(frozen=True)
class Trust:
    """How well the rungs below the top rank configurations.

    Args:
        rungs: lowest first.
    """

    rungs: tuple[RungTrust, ...]

    @property
    def verdict(self) -> str:
        """The verdict on the worst rung; `not measured` if one is not and the others are trusted."""
        order = ("not trusted", "doubtful", "not measured", "trusted")
        return min((rung.verdict for rung in self.rungs), key=order.index, default="trusted")

    def __str__(self) -> str:
        lines = [f"Lower rungs of the ladder: {self.verdict}."]
        for rung in self.rungs:
            measured = "-" if math.isnan(rung.correlation) else f"{rung.correlation:.2f}"
            lines.append(
                f"  {rung.fidelity:g}: rank correlation with the final result {measured} "
                f"({rung.count} configurations), {100 * rung.share:.0f} % are promoted"
            )
        return "\n".join(lines)


def rung_trust(fidelity: float, base_share: float, here: Array, final: Array) -> RungTrust:
    """Return how well a rung ranks configurations.

    Args:
        fidelity: of the rung.
        base_share: the share that is promoted where the rung is trusted.
        here, final: the u uncertain objectives of the n exploratory configurations on the rung and at the top,
            shape [n, u]; on the rung their substitutes where it is ranked by such.
    """
    n = len(here)
    if n < ENOUGH:
        return RungTrust(fidelity, math.nan, n, base_share)
    correlation = min(_spearman(here[:, j], final[:, j]) for j in range(here.shape[1]))
    return RungTrust(fidelity, correlation, n, widened(base_share, correlation, n))


def widened(base_share: float, correlation: float, n: int) -> float:
    """Return the share that is promoted: `base_share` at a correlation of `GOOD` or more, and 1 at 0 or less.

    The measured correlation is averaged with the prior on Fisher's scale, where the variance of the correlation of
    n pairs is 1 / (n - 3) whatever its value.
    """
    weight = max(n - 3, 0)
    z = math.atanh(min(max(correlation, -0.99), 0.99))
    posterior = math.tanh((weight * z + _PRIOR_WEIGHT * math.atanh(_PRIOR)) / (weight + _PRIOR_WEIGHT))
    missing = min(max((GOOD - posterior) / GOOD, 0.0), 1.0)
    return base_share + (1.0 - base_share) * missing


def _spearman(here: Sequence[float] | Array, final: Sequence[float] | Array) -> float:
    from scipy.stats import spearmanr  # slow to import, and only ladders need it

    if np.ptp(here) == 0 or np.ptp(final) == 0:
        return 0.0  # equal values rank nothing
    found = float(spearmanr(here, final).statistic)
    return 0.0 if math.isnan(found) else found
