"""Can the lower rungs be trusted? Measured on configurations that climbed to the top whatever their rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

Array = NDArray[np.float64]

ENOUGH = 5
"""Configurations from the random share that must have finished before a correlation is given."""
GOOD, POOR = 0.7, 0.4
_PRIOR, _PRIOR_WEIGHT = 0.85, 4.0
"""The rank correlation of a rung where nothing was measured, and how many configurations that belief is worth.

Tables of real curves had 0.84 to 0.94 at a tenth of the full budget. Five configurations alone would swing
the share that climbs by chance.
"""


@dataclass(frozen=True)
class RungTrust:
    """One rung against the top.

    Args:
        fidelity: of the rung.
        correlation: Spearman's, between the values here and at the top, of the uncertain objective where it is
            least; NaN where fewer than `ENOUGH` were measured.
        count: configurations measured.
        share: the share of the rung that climbs, widened if need be.
    """

    fidelity: float
    correlation: float
    count: int
    share: float

    @property
    def verdict(self) -> str:
        if math.isnan(self.correlation):
            return "not measured"
        if self.correlation >= GOOD:
            return "trusted"
        return "doubtful" if self.correlation >= POOR else "not trusted"


@dataclass(frozen=True)
class Trust:
    """All rungs below the top."""

    rungs: tuple[RungTrust, ...]

    @property
    def verdict(self) -> str:
        """That of the worst rung; `not measured` if any is not, and none is bad."""
        order = ("not trusted", "doubtful", "not measured", "trusted")
        return min((rung.verdict for rung in self.rungs), key=order.index, default="trusted")

    def __str__(self) -> str:
        lines = [f"The ladder's lower rungs: {self.verdict}."]
        for rung in self.rungs:
            measured = "-" if math.isnan(rung.correlation) else f"{rung.correlation:.2f}"
            lines.append(
                f"  {rung.fidelity:g}: rank correlation with the final result {measured} "
                f"({rung.count} configurations), {100 * rung.share:.0f} % climb"
            )
        return "\n".join(lines)


def rung_trust(fidelity: float, base_share: float, here: Array, final: Array) -> RungTrust:
    """What a rung is worth.

    Args:
        fidelity: of the rung.
        base_share: the share that climbs where ranks hold.
        here, final: shape [n, u], the u uncertain objectives of the configurations that climbed regardless, or
            what stands for them on the rung.
    """
    n = len(here)
    if n < ENOUGH:
        return RungTrust(fidelity, math.nan, n, base_share)
    correlation = min(_spearman(here[:, j], final[:, j]) for j in range(here.shape[1]))
    return RungTrust(fidelity, correlation, n, widened(base_share, correlation, n))


def widened(base_share: float, correlation: float, n: int) -> float:
    """The share that climbs: `base_share` from a correlation of `GOOD` upwards, everybody at 0.

    The measured correlation is averaged with the prior belief on Fisher's scale, where the variance of one of n
    pairs is 1 / (n - 3) whatever the correlation.
    """
    weight = max(n - 3, 0)
    z = math.atanh(min(max(correlation, -0.99), 0.99))
    believed = math.tanh((weight * z + _PRIOR_WEIGHT * math.atanh(_PRIOR)) / (weight + _PRIOR_WEIGHT))
    missing = min(max((GOOD - believed) / GOOD, 0.0), 1.0)
    return base_share + (1.0 - base_share) * missing


def _spearman(here: Sequence[float] | Array, final: Sequence[float] | Array) -> float:
    if np.ptp(here) == 0 or np.ptp(final) == 0:
        return 0.0  # a rung that cannot tell configurations apart ranks nothing
    found = float(spearmanr(here, final).statistic)
    return 0.0 if math.isnan(found) else found
