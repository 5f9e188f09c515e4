"""AdaLoRA: low-rank adapters whose ranks are reallocated between the matrices during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor

_DEFAULT_RANK, _REFERENCE_RANK = 8, 8
_WARMUP, _FINAL, _ALLOCATIONS = 0.1, 0.4, 100
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Attributes of peft's rank allocator with its statistics per parameter."""
_PATTERN = "rank_pattern"


@register
class AdaLora(MatrixFamily):
    """Trains low-rank updates W x + m · B diag(E) A x and prunes their ranks to a budget (Zhang et al., 2023).

    A triplet is a column of B, a value of E and a row of A. As in the paper (arXiv 2303.10512), training starts
    with 1.5 times the average final rank `rank`: a tenth of the steps with all triplets, then fewer along a cubic
    schedule, and the last 40 % of the steps at the budget. Triplets are pruned by the smoothed sensitivity of the
    loss to their parameters (section 3.2), after each step, or a hundred times in long runs. A run of one step
    prunes nothing.

    * `scale` is the multiplier m at rank 8, as for LoRA, here of the initial rank.
    * `orthogonality` is the weight of the penalty that keeps A and B orthogonal; it is part of the training loss, not
      of the reported loss.

    Pruned triplets are zero but remain in the model, so parameters and FLOPs are those of the initial ranks. The file
    saved after a whole run is smaller than `stored_bytes` by the pruned triplets, about a third.
    """

    name = "adalora"
    title = "AdaLoRA (Zhang et al., 2023, arXiv 2303.10512)"
    quantized = True
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=32, log=True, default=_DEFAULT_RANK),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Float(name="orthogonality", low=0.05, high=0.5, log=True, default=0.1),
        Float(name="learning_rate", low=2e-4, high=5e-3, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if task == "image-classification":
            return "peft adds AdaLoRA's penalty to the loss of its own task types only, which exclude images"
        return super().unsupported(shape, task)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o+1) parameters, r the initial rank; the FLOPs of LoRA, and 6r²(i+o) per step for the penalty."""
        inputs, outputs, rank = matrix.inputs, matrix.outputs, _initial_rank(config)
        return MatrixCost(
            parameters=rank * (inputs + outputs + 1),
            forward=2.0 * rank * (inputs + outputs),
            backward=2.0 * rank * (inputs + 2 * outputs + differentiated * inputs),
            penalty=6.0 * rank**2 * (inputs + outputs),
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            **self.common_arguments(config, shape, task),
            init_r=_initial_rank(config),
            target_r=int(config.get("rank", _DEFAULT_RANK)),
            lora_alpha=float(config.get("scale", 2.0)) * _REFERENCE_RANK,
            orth_reg_weight=float(config.get("orthogonality", 0.1)),
            total_step=1,  # `schedule` sets the actual number
            fan_in_fan_out=shape.conv1d,
        )

    def schedule(self, peft_config: PeftConfig, steps: int) -> None:
        peft_config.total_step = steps
        peft_config.tinit = int(_WARMUP * steps)
        peft_config.tfinal = int(_FINAL * steps)
        peft_config.deltaT = math.ceil(steps / _ALLOCATIONS)

    def after_step(self, model: PeftModel, step: int) -> None:
        if model.active_peft_config.total_step > 1:
            model.base_model.update_and_allocate(step)

    def learning_rate_factors(self, config: Mapping[str, Value]) -> Mapping[str, float]:
        """Freeze the divisor of the update, the number of triplets: on a base in bf16, peft makes it trainable."""
        return {"ranknum": 0.0}

    def training_state(self, model: PeftModel) -> dict[str, Tensor]:
        import torch

        allocator = model.base_model.rankallocator
        found = {f"{kind}/{name}": x for kind in _IMPORTANCE for name, x in getattr(allocator, kind).items()}
        pattern = model.active_peft_config.rank_pattern or {}
        return found | {f"{_PATTERN}/{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def restore_training_state(self, model: PeftModel, state: Mapping[str, Tensor]) -> None:
        pattern = {}
        for key, tensor in state.items():
            kind, _, name = key.partition("/")
            if kind == _PATTERN:
                pattern[name] = tensor.tolist()
            else:
                getattr(model.base_model.rankallocator, kind)[name] = tensor
        if pattern:
            model.active_peft_config.rank_pattern = pattern


def _initial_rank(config: Mapping[str, Value]) -> int:
    return math.ceil(1.5 * int(config.get("rank", _DEFAULT_RANK)))
