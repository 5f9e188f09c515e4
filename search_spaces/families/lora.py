"""LoRA, with its variants rsLoRA and DoRA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.backward import layer_gradients
from search_spaces.families.base import AdapterCost, Family, register
from search_spaces.families.tools import peft_task, trained_modules
from search_spaces.parameters import Categorical, Float, Int, TopLayers, Value, adapted_layers
from search_spaces.shapes import ModelShape, TaskType

if TYPE_CHECKING:
    from peft import PeftConfig

REFERENCE_RANK = 8
"""The rank at which `scale` is the multiplier of B·A itself."""


@register
class Lora(Family):
    """W x + m · B A x with A of shape [rank, inputs] and B of shape [outputs, rank], B zero at the start.

    The knob `scale` is m at the reference rank 8. At rank r the multiplier is `scale` · 8/r, or with
    `rslora` `scale` · √(8/r), which keeps the best learning rate in place (Kalajdzievski, 2023,
    arXiv 2312.03732). `dora` trains the length of each row of the weight apart from its direction (Liu et
    al., 2024, arXiv 2402.09353). peft's `alpha` follows: it is not a knob, since alpha and rank move the
    same multiplier.
    """

    name = "lora"
    title = "LoRA (Hu et al., 2021)"
    knobs = (
        Categorical(name="targets", choices=("q+v", "attention", "feed-forward", "all"), default="all"),
        TopLayers(name="layers"),
        Int(name="rank", low=1, high=64, log=True, default=8),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Categorical(name="rslora", choices=(False, True)),
        Categorical(name="dora", choices=(False, True)),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """r(i+o) parameters a matrix, and o more with DoRA.

        Per token and matrix 2r(i+o) FLOPs forward and twice that backward, less 2ri in the lowest layer
        where the matrix's input needs no gradient. DoRA forms B·A once a forward pass by sending the
        identity through it, 2ri(i+o), and with dropout multiplies by W a second time, as peft does.
        """
        matrices = shape.select(str(config.get("targets", "all")))
        layers = adapted_layers(config, "layers", shape.depth)
        rank = int(config.get("rank", REFERENCE_RANK))
        dora = bool(config.get("dora", False))
        again = dora and float(config.get("dropout", 0.0)) > 0
        sites: frozenset[str] = frozenset(matrix.role for matrix in matrices)
        lowest = layer_gradients(sites, parallel=shape.parallel)
        count = len(layers)
        parameters, forward, backward, step = 0, 0.0, 0.0, 0.0
        for matrix in matrices:
            inputs, outputs = matrix.inputs, matrix.outputs
            differentiated = count if lowest.reads(matrix.role) else count - 1
            parameters += count * rank * (inputs + outputs)
            forward += count * 2 * rank * (inputs + outputs)
            backward += 2 * rank * (count * (inputs + 2 * outputs) + differentiated * inputs)
            if dora:
                parameters += count * outputs
                step += count * 2 * rank * inputs * (inputs + outputs)
            if again:
                forward += count * 2 * inputs * outputs
                # peft wraps a transposed weight in a new parameter, whose gradient autograd computes in vain.
                products = differentiated + (count if matrix.conv1d else 0)
                backward += products * 2 * inputs * outputs
        return AdapterCost(
            parameters=parameters,
            lowest_layer=layers[0],
            lowest_sites=sites,
            forward_flops=forward,
            backward_flops=backward,
            step_flops=step,
            mergeable=True,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig

        rslora = bool(config.get("rslora", False))
        scale = float(config.get("scale", 2.0))
        matrices = shape.select(str(config.get("targets", "all")))
        return LoraConfig(
            task_type=peft_task(task),
            target_modules=shape.modules(adapted_layers(config, "layers", shape.depth), matrices),
            r=int(config.get("rank", REFERENCE_RANK)),
            lora_alpha=scale * (math.sqrt(REFERENCE_RANK) if rslora else REFERENCE_RANK),
            use_rslora=rslora,
            use_dora=bool(config.get("dora", False)),
            lora_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
            modules_to_save=trained_modules(shape),
        )
