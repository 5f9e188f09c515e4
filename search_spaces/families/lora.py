"""LoRA and its variants rsLoRA, DoRA, LoRA+ and LoRA-FA, with the initializations that peft knows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.families.framework.base import Preparation, register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.stacked_weights import (
    saved_numbers,
    target_arguments,
    update_cost,
    without_renamed,
)
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.structured import rank_at, varies_by_layer
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

REFERENCE_RANK = 8
"""The rank at which `scale` is the multiplier of B·A."""

_INITS: dict[str, bool | str] = {
    "kaiming": True,
    "orthogonal": "orthogonal",
    "pissa": "pissa",
    "olora": "olora",
    # The others change a LoRA that starts as usual (`trials/base/initialization.py`), so that peft can load it.
    "eva": True,
    "corda": True,
    "lora_ga": True,
    "loftq": True,
}
"""The initializations by their names in peft."""
_BATCHES = {"eva": 8, "corda": 8, "lora_ga": 4, "loftq": 0}
"""Number of training batches that an initialization reads."""
_TRUNCATED = ("pissa", "olora")
"""Initializations that give a matrix at most as many ranks as it has rows or columns."""
_DOUBLED = ("corda", "lora_ga")
"""Initializations that are subtracted from the weight, so that the saved adapter has twice the rank."""


@register
class Lora(MatrixFamily):
    """Trains a low-rank update m · B A of a matrix, as in W x + m · B A x (Hu et al., 2021, arXiv 2106.09685).

    A has shape [rank, inputs] and B has shape [outputs, rank].

    * `scale` is m at the reference rank 8. At rank r the multiplier is `scale` · 8/r, or `scale` · √(8/r) with
      `rslora`, which keeps the best learning rate independent of the rank (Kalajdzievski, 2023, arXiv 2312.03732).
      peft's `alpha` follows from it and is not a separate parameter, because alpha and rank change the same
      multiplier. It does not depend on the rank, so m is correct in each layer of a rank profile.
    * `dora` trains the norm of each row of the weight separately from its direction (Liu et al., 2024,
      arXiv 2402.09353).
    * `init`: "kaiming" draws A and sets B to zero. "orthogonal" draws orthogonal A and B with B·A zero; it requires
    an
      even rank, so an odd one is rounded up. "pissa" uses the largest singular values and vectors of W and subtracts
      them from W (Meng et al., 2024, arXiv 2404.02948). The saved adapter loads on the original base model, because
      peft repeats the decomposition; so it is the exact one, since the faster randomized decomposition is not
      reproducible. It costs one decomposition per matrix at the start of every trial: fractions of a second for
      matrices of 768 rows, minutes in total for billions of parameters.
      "olora" does the same with a QR decomposition (Büyükakyüz, 2024, arXiv 2406.01775).
      Three read training data first, the same batches for the same seed, and their FLOPs are part of those of
      training: "eva" sets A to the directions in which the inputs of W vary most (8 batches; Paischer et al.,
      2024, arXiv 2410.07170), "corda" takes the largest components of W C out of W, C being the covariance of its
      inputs (8 batches; Yang et al., 2024, arXiv 2406.05223), and "lora_ga" the singular vectors of W's gradient (4
      batches; Wang et al., 2024, arXiv 2407.05000). While they are computed, "eva" and "corda" keep a matrix of
      inputs² for each W, and "lora_ga" a gradient as large as W. An adapter from "corda" or "lora_ga" is saved with
      twice the rank, as a difference to the original base model, on which it loads.
      "loftq" sets B A to the largest components of what quantization has changed in W (Li et al., 2023, arXiv
      2310.08659), so it requires weights in int8 or nf4, and memory for the original base model at the start.
    * `freeze_a` trains only B (LoRA-FA, Zhang et al., 2023, arXiv 2308.03303).
    * On models with experts, the targets `experts` adapt the routed experts, in one update for each of them, and
      `shared-experts` those that every token passes. peft adds these updates to the weights in each step, which it
      supports without `dora` and `dropout` and from the initialization "kaiming".
    * `lr_ratio` is the ratio of B's learning rate to that of all other parameters (LoRA+, Hayou et al., 2024,
      arXiv 2402.12354).
    """

    name = "lora"
    title = "LoRA (Hu et al., 2021)"
    quantized = True
    adapts_experts = True
    reads_weights: ClassVar[Mapping[str, tuple[Value, ...]]] = {
        "init": ("pissa", "olora", "corda", "lora_ga"),
        "dora": (True,),
    }
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=8, by_layer=True),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Categorical(name="rslora", choices=(False, True)),
        Categorical(name="dora", choices=(False, True)),
        Categorical(name="init", choices=tuple(_INITS)),
        Categorical(name="freeze_a", choices=(False, True)),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
        Float(name="lr_ratio", low=1.0, high=16.0, log=True, default=1.0),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters per matrix, r·o with A frozen, and o more with DoRA.

        Per token and matrix there are 2r(i+o) FLOPs forward and twice as many backward, minus 2ri in the lowest layer
        if the matrix's input needs no gradient. A frozen A saves its gradient, 2ri, and in the lowest layer that of
        A x, 2ro. DoRA in peft forms B·A once per forward pass as its product with the identity, 2ri(i+o), and with
        dropout multiplies by W a second time.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank, trained_a = _matrix_rank(config, matrix), not config.get("freeze_a", False)
        if matrix.by_parameter:
            return update_cost(matrix, rank, trained_a)
        parameters = rank * (trained_a * inputs + outputs)
        forward = 2.0 * rank * (inputs + outputs)
        backward = 2.0 * rank * (trained_a * inputs + (1 + (trained_a or differentiated)) * outputs)
        backward += differentiated * 2.0 * rank * inputs
        starts = _prepare_flops(config, matrix)
        if not config.get("dora", False):
            return MatrixCost(parameters, forward, backward, prepare_token=starts[0], prepare=starts[1])
        if float(config.get("dropout", 0.0)) > 0:
            forward += 2 * inputs * outputs
            # peft wraps a transposed weight in a new parameter, whose unused gradient autograd computes.
            backward += (differentiated + matrix.conv1d) * 2 * inputs * outputs
        step = 2.0 * rank * inputs * (inputs + outputs)
        return MatrixCost(
            parameters + outputs, forward, backward, step, prepare_token=starts[0], prepare=starts[1]
        )

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        """Return the bytes with a frozen A included, which is random in every trial, and those of a doubled rank."""
        copies = 2 if config.get("init") in _DOUBLED else 1
        if not config.get("freeze_a", False) and copies == 1:
            return None
        dora = bool(config.get("dora", False))
        numbers = sum(
            copies * max(m.experts, 1) * _matrix_rank(config, m) * (m.inputs + m.outputs) + dora * m.outputs
            for m in matrices
        )
        return 0, 4 * numbers

    def preparation(self, config: Mapping[str, Value]) -> Preparation | None:
        method = str(config.get("init", "kaiming"))
        if method not in _BATCHES:
            return None
        return Preparation(method, _BATCHES[method], backward=method == "lora_ga")

    def owns_weights(self, config: Mapping[str, Value]) -> bool:
        """Return whether the initialization is OLoRA's, which peft subtracts from the weight in place."""
        return config.get("init") == "olora"

    def excluded(self, shape: ModelShape) -> Mapping[str, Mapping[Value, str]]:
        found = {name: dict(values) for name, values in super().excluded(shape).items()}
        inits = found.setdefault("init", {})
        if not shape.quantized:
            inits["loftq"] = "corrects the error of quantized weights, and these are not quantized"
        if shape.conv1d:
            inits["olora"] = "decomposes transposed matrices (Conv1D) the wrong way in peft"
        return found

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        return saved_numbers(matrix) if matrix.by_parameter else super().saved_numbers(config, matrix)

    def selected(self, shape: ModelShape, targets: str) -> tuple[Matrix, ...]:
        return without_renamed(shape, super().selected(shape, targets), targets)

    def common_arguments(
        self, config: Mapping[str, Value], shape: ModelShape, task: TaskType
    ) -> dict[str, Any]:
        arguments = super().common_arguments(config, shape, task)
        return target_arguments(
            arguments, shape, self.chosen_layers(config, shape), self.matrices(config, shape)
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig

        rslora = bool(config.get("rslora", False))
        scale = float(config.get("scale", 2.0))
        return LoraConfig(
            **self.common_arguments(config, shape, task),
            r=_rank(config),
            rank_pattern=_rank_pattern(config, shape, self.chosen_layers(config, shape)),
            lora_alpha=scale * (math.sqrt(REFERENCE_RANK) if rslora else REFERENCE_RANK),
            use_rslora=rslora,
            use_dora=bool(config.get("dora", False)),
            init_lora_weights=_INITS[str(config.get("init", "kaiming"))],
            lora_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
        )

    def learning_rate_factors(self, config: Mapping[str, Value]) -> Mapping[str, float]:
        factors = {"lora_A": 0.0} if config.get("freeze_a", False) else {}
        ratio = float(config.get("lr_ratio", 1.0))
        return factors if ratio == 1 else {**factors, "lora_B": ratio}


def _rank(config: Mapping[str, Value]) -> int:
    rank = int(config.get("rank", REFERENCE_RANK))
    return rank + rank % 2 if config.get("init") == "orthogonal" else rank


def _matrix_rank(config: Mapping[str, Value], matrix: Matrix) -> int:
    """Return the rank on one matrix; a decomposition has at most as many values as the matrix rows or columns."""
    rank = _rank(config)
    return min(rank, matrix.inputs, matrix.outputs) if config.get("init") in _TRUNCATED else rank


def _prepare_flops(config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
    """Return the FLOPs of an initialization on one matrix: per token that it reads, and once.

    These are the products of inputs with inputs or gradients, of the weight with the covariance, and B A, which is
    subtracted from the weight. LoRA-GA has at most half as many ranks as the matrix.
    """
    method, inputs, outputs = config.get("init"), matrix.inputs, matrix.outputs
    side = min(inputs, outputs)
    if method == "eva":
        return 2.0 * inputs**2, 0.0
    if method == "corda":
        rank = min(_rank(config), side)
        return 2.0 * inputs**2, 2.0 * outputs * inputs**2 + 2.0 * rank * inputs * outputs
    if method == "lora_ga":
        return 2.0 * inputs * outputs, 2.0 * min(_rank(config), side // 2) * inputs * outputs
    return 0.0, 0.0


def _rank_pattern(config: Mapping[str, Value], shape: ModelShape, layers: tuple[int, ...]) -> dict[str, int]:
    """Return the rank of each adapted layer by a regular expression of its modules, if ranks differ."""
    if not varies_by_layer(config, "rank"):
        return {}
    return {
        rf"{re.escape(shape.layer_path(layer))}\..*": _rank(
            {**config, "rank": rank_at(config, "rank", layer, shape.depth, shape.width, shape.decoder_depth)}
        )
        for layer in layers
    }
