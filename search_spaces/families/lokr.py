"""LoKr: the Kronecker product of a small matrix and a low-rank one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import isqrt
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK, _DEFAULT_FACTOR = 8, 8


@register
class LoKr(MatrixFamily):
    """Trains A, B and C in W + scale · C ⊗ (B A) (Yeh et al., 2023, arXiv 2309.14859).

    C has about `factor` rows and columns: the sizes of W are divided by `factor`, or, if they are not divisible by
    it, by their largest divisor below it and below their square root. B A is one full matrix if the rank is at
    least half its size; with `decompose_both`, C is low-rank too if that is smaller. `scale` is the multiplier at
    every rank. peft forms the full matrix in every forward pass, so it is slow for its number of parameters.
    """

    name = "lokr"
    title = "LoKr (Yeh et al., 2023)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=_DEFAULT_RANK),
        Categorical(name="factor", choices=(2, 4, 8, 16, 32), default=_DEFAULT_FACTOR, ordered=True),
        Categorical(name="decompose_both", choices=(False, True)),
        Float(name="scale", low=0.25, high=8.0, log=True, default=1.0),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return unadaptable(shape, "LoKr")

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """The parameters of the two factors, each full or low-rank.

        A low-rank factor of k rows and l columns is formed once per forward pass, 2rkl FLOPs, and costs twice as many
        backward; the Kronecker product is elementwise. The update is a second matrix: per token 2io forward, 2io for
        its gradient and 2io for that of its input.
        """
        factor = int(config.get("factor", _DEFAULT_FACTOR))
        rows, large_rows = divided(matrix.outputs, factor)
        columns, large_columns = divided(matrix.inputs, factor)
        both = bool(config.get("decompose_both", False))
        small, small_step = _factor_cost(config, rows, columns, low_rank=both)
        large, large_step = _factor_cost(config, large_rows, large_columns, low_rank=True)
        whole = 2.0 * matrix.inputs * matrix.outputs
        return MatrixCost(small + large, whole, (1 + differentiated) * whole, step=small_step + large_step)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoKrConfig

        rank = int(config.get("rank", _DEFAULT_RANK))
        return LoKrConfig(
            **self.common_arguments(config, shape, task),
            r=rank,
            alpha=rank * float(config.get("scale", 1.0)),
            decompose_factor=int(config.get("factor", _DEFAULT_FACTOR)),
            decompose_both=bool(config.get("decompose_both", False)),
        )


@lru_cache(maxsize=4096)
def divided(size: int, factor: int) -> tuple[int, int]:
    """Return two numbers whose product is `size`: `factor`, or the divisor that peft uses instead, and the other."""
    if size % factor == 0:
        return factor, size // factor
    divisor = next(d for d in range(min(factor, isqrt(size)), 0, -1) if size % d == 0)
    return divisor, size // divisor


def _factor_cost(
    config: Mapping[str, Value], rows: int, columns: int, *, low_rank: bool
) -> tuple[int, float]:
    """Return the parameters of one factor, and the FLOPs to form it and for its gradients."""
    rank = int(config.get("rank", _DEFAULT_RANK))
    if not low_rank or rank >= max(rows, columns) / 2:
        return rows * columns, 0.0
    return rank * (rows + columns), 6.0 * rank * rows * columns
