"""LoRA, with its variants rsLoRA and DoRA."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.base import register
from search_spaces.families.matrices import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.parameters import Categorical, Float, Int, Value, adapted_layers
from search_spaces.shapes import Matrix, ModelShape, TaskType
from search_spaces.structures import has_profile, rank_at

if TYPE_CHECKING:
    from peft import PeftConfig

REFERENCE_RANK = 8
"""The rank at which `scale` is the multiplier of B·A itself."""


@register
class Lora(MatrixFamily):
    """W x + m · B A x with A of shape [rank, inputs] and B of shape [outputs, rank], B zero at the start.

    The knob `scale` is m at the reference rank 8. At rank r the multiplier is `scale` · 8/r, or with
    `rslora` `scale` · √(8/r), which keeps the best learning rate in place (Kalajdzievski, 2023,
    arXiv 2312.03732). `dora` trains the length of each row of the weight apart from its direction (Liu et
    al., 2024, arXiv 2402.09353). peft's `alpha` follows: it is not a knob, since alpha and rank move the
    same multiplier. It does not depend on the rank, so that m is as defined in each layer of a rank profile.
    """

    name = "lora"
    title = "LoRA (Hu et al., 2021)"
    knobs = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=8, by_layer=True),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Categorical(name="rslora", choices=(False, True)),
        Categorical(name="dora", choices=(False, True)),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters a matrix, and o more with DoRA.

        Per token and matrix 2r(i+o) FLOPs forward and twice that backward, less 2ri in the lowest layer
        where the matrix's input needs no gradient. DoRA forms B·A once a forward pass by sending the
        identity through it, 2ri(i+o), and with dropout multiplies by W a second time, as peft does.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", REFERENCE_RANK))
        forward = 2.0 * rank * (inputs + outputs)
        backward = 2.0 * rank * (inputs + 2 * outputs + differentiated * inputs)
        if not config.get("dora", False):
            return MatrixCost(rank * (inputs + outputs), forward, backward)
        if float(config.get("dropout", 0.0)) > 0:
            forward += 2 * inputs * outputs
            # peft wraps a transposed weight in a new parameter, whose gradient autograd computes in vain.
            backward += (differentiated + matrix.conv1d) * 2 * inputs * outputs
        parameters = rank * (inputs + outputs) + outputs
        return MatrixCost(parameters, forward, backward, step=2.0 * rank * inputs * (inputs + outputs))

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig

        rslora = bool(config.get("rslora", False))
        scale = float(config.get("scale", 2.0))
        return LoraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", REFERENCE_RANK)),
            rank_pattern=_rank_pattern(config, shape),
            lora_alpha=scale * (math.sqrt(REFERENCE_RANK) if rslora else REFERENCE_RANK),
            use_rslora=rslora,
            use_dora=bool(config.get("dora", False)),
            lora_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
        )


def _rank_pattern(config: Mapping[str, Value], shape: ModelShape) -> dict[str, int]:
    """The rank of each adapted layer by a regular expression of its modules, where they differ."""
    if not has_profile(config, "rank"):
        return {}
    return {
        rf"{re.escape(shape.layers_path)}\.{layer}\..*": rank_at(
            config, "rank", layer, shape.depth, shape.width
        )
        for layer in adapted_layers(config, "layers", shape.depth)
    }
