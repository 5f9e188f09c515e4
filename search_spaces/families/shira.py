"""SHiRA: a few random entries of each weight matrix, trained directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 8
_MASK_SEED = 0


@register
class Shira(MatrixFamily):
    """Trains as many random entries of a matrix as a LoRA has parameters (Bhardwaj et al., 2024, arXiv 2406.13175).

    The random mask (SHiRA-Rand) is the same in every trial. The update is sparse and of high rank. If a selected
    matrix has fewer entries than a LoRA of rank `rank`, the rank is the largest for which all matrices have enough.
    Two indices per entry are saved.
    """

    name = "shira"
    title = "SHiRA (Bhardwaj et al., 2024)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=_DEFAULT_RANK),
        Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return unadaptable(shape, "SHiRA")

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        return super().cost({**config, "rank": self._rank(config, shape)}, shape)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters; 2io FLOPs per token backward, because the full matrix has a gradient.

        The sum of weight and update is formed elementwise and multiplied once, so the forward pass costs nothing.
        """
        return MatrixCost(
            parameters=int(config["rank"]) * (matrix.inputs + matrix.outputs),
            backward=2.0 * matrix.inputs * matrix.outputs,
        )

    def saved_bytes(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> tuple[int, int]:
        """Return the bytes of three numbers of four bytes per entry: its value, row and column."""
        return 0, 3 * 4 * sum(int(config["rank"]) * (m.inputs + m.outputs) for m in matrices)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import ShiraConfig

        return ShiraConfig(
            **self.common_arguments(config, shape, task),
            r=self._rank(config, shape),
            random_seed=_MASK_SEED,
        )

    def _rank(self, config: Mapping[str, Value], shape: ModelShape) -> int:
        """Return the rank, reduced so that no selected matrix has fewer entries than trained ones."""
        most = min(m.inputs * m.outputs // (m.inputs + m.outputs) for m in self.matrices(config, shape))
        return min(int(config.get("rank", _DEFAULT_RANK)), most)
