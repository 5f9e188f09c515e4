"""TinyLoRA: a few numbers that combine fixed random updates in the principal directions of the weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 2
_DEFAULT_NUMBERS = 64


@register
class TinyLora(FittedFamily):
    """Trains v in W x + B (Σₖ vₖ Pₖ) A x (Morris et al., 2026, arXiv 2602.04118).

    A and B are from the singular value decomposition of W, the r × r matrices Pₖ are random and fixed, and v is
    zero at the start. `numbers` is the length of v; with `tied`, all matrices share one v. peft saves A and B too,
    so the file is much larger than the trained parameters. Every trial decomposes every adapted matrix.
    """

    name = "tinylora"
    title = "TinyLoRA (Morris et al., 2026)"
    linear_only = False
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=16, log=True, default=_DEFAULT_RANK),
        Int(name="numbers", low=1, high=256, log=True, default=_DEFAULT_NUMBERS),
        Categorical(name="tied", choices=(False, True)),
        Float(name="learning_rate", low=1e-4, high=3e-2, log=True, default=3e-3),
    )

    def shared_parameters(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> int:
        return int(config.get("numbers", _DEFAULT_NUMBERS)) if config.get("tied", False) else 0

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """u parameters, or none per matrix if v is tied.

        2r(i + r + o) FLOPs per token forward; backward the gradient of the r × r matrix, the product with B, and
        that with A if the input needs a gradient. A step combines the Pₖ, 2ur² FLOPs forward and as many backward;
        a single one is scaled, elementwise.
        """
        inputs, outputs, rank = matrix.inputs, matrix.outputs, _rank(config, matrix)
        numbers = int(config.get("numbers", _DEFAULT_NUMBERS))
        return MatrixCost(
            0 if config.get("tied", False) else numbers,
            forward=2.0 * rank * (inputs + rank + outputs),
            backward=2.0 * rank * (rank + outputs + differentiated * (inputs + rank)),
            step=4.0 * numbers * rank**2 if numbers > 1 else 0.0,
        )

    def frozen_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        return _rank(config, matrix) * (matrix.inputs + matrix.outputs)

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        return frozenset()

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import TinyLoraConfig

        return TinyLoraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            u=int(config.get("numbers", _DEFAULT_NUMBERS)),
            weight_tying=1.0 if config.get("tied", False) else 0.0,
            save_projection=False,
            fan_in_fan_out=shape.conv1d,
        )


def _rank(config: Mapping[str, Value], matrix: Matrix) -> int:
    """Return the rank that peft uses for one matrix: at most its smaller side."""
    return min(int(config.get("rank", _DEFAULT_RANK)), matrix.inputs, matrix.outputs)
