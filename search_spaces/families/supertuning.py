"""Super-Tuning: the largest entries of each weight matrix, trained directly, optionally beside a LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_SHARE = 0.01
_LORA_SCALE = 2.0
"""The factor of the LoRA's update at every rank, the default of peft."""


@register
class Supertuning(MatrixFamily):
    """Trains the entries of a matrix with the largest magnitudes (Super-Tuning, arXiv 2607.09287).

    `share` is the trained share of the entries. With a `lora_rank` above 0, a LoRA of that rank is trained beside
    them (the paper's hybrid, Supra). The positions of the entries are saved with their values. The share is at least
    one entry of each adapted matrix.
    """

    name = "supertuning"
    title = "Super-Tuning (2026)"
    parameters = (
        TARGETS,
        LAYERS,
        Float(name="share", low=0.002, high=0.05, log=True, default=_DEFAULT_SHARE),
        Categorical(name="lora_rank", choices=(0, 2, 4, 8, 16, 32), default=0, ordered=True),
        Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return unadaptable(shape, "Super-Tuning")

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> Mapping[str, Value]:
        """Return the configuration with a share of at least one entry of the smallest matrix."""
        smallest = min(m.inputs * m.outputs for m in self.matrices(config, shape))
        return {**config, "share": max(float(config.get("share", _DEFAULT_SHARE)), 1.5 / smallest)}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """⌊share · i · o⌋ parameters per matrix, and r(i+o) of the LoRA.

        The sum of weight and entries is formed elementwise and multiplied once, so the entries cost nothing forward;
        the full matrix has a gradient, 2io FLOPs per token backward. The LoRA costs what it costs by itself.
        """
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config.get("lora_rank", 0))
        return MatrixCost(
            parameters=_entries(config, matrix) + rank * (inputs + outputs),
            forward=2.0 * rank * (inputs + outputs),
            backward=2.0 * inputs * outputs + 2.0 * rank * (inputs + 2 * outputs + differentiated * inputs),
        )

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        """Return the numbers between the LoRA's factors, and the sum of weight and entries."""
        return float(config.get("lora_rank", 0)), float(matrix.inputs * matrix.outputs)

    def saved_bytes(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> tuple[int, int]:
        """Return the bytes of two numbers of four bytes per entry, its value and position, and those of the LoRA."""
        rank = int(config.get("lora_rank", 0))
        return 0, 4 * sum(2 * _entries(config, m) + rank * (m.inputs + m.outputs) for m in matrices)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import SupertuningConfig

        config = self.fit_to_model(config, shape)
        rank = int(config.get("lora_rank", 0))
        lora = {"r": rank, "lora_alpha": _LORA_SCALE * rank} if rank else {}
        return SupertuningConfig(
            **self.common_arguments(config, shape, task), sparsity=_sparsity(config), **lora
        )


def _sparsity(config: Mapping[str, Value]) -> float:
    return 1.0 - float(config.get("share", _DEFAULT_SHARE))


def _entries(config: Mapping[str, Value], matrix: Matrix) -> int:
    """Return the number of trained entries of a matrix, rounded as peft rounds it."""
    return int(matrix.inputs * matrix.outputs * (1 - _sparsity(config)))
