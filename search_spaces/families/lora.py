"""LoRA and its variants rsLoRA, DoRA, LoRA+, LoRA-FA and PiSSA."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.structured import rank_at, varies_by_layer
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

REFERENCE_RANK = 8
"""The rank at which `scale` is the multiplier of B·A."""

_INITS: dict[str, bool | str] = {"kaiming": True, "orthogonal": "orthogonal", "pissa": "pissa"}
"""The initializations by their names in peft."""


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
    * `freeze_a` trains only B (LoRA-FA, Zhang et al., 2023, arXiv 2308.03303).
    * `lr_ratio` is the ratio of B's learning rate to that of all other parameters (LoRA+, Hayou et al., 2024,
      arXiv 2402.12354).
    """

    name = "lora"
    title = "LoRA (Hu et al., 2021)"
    quantized = True
    reads_weights: ClassVar[Mapping[str, tuple[Value, ...]]] = {"init": ("pissa",), "dora": (True,)}
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
        parameters = rank * (trained_a * inputs + outputs)
        forward = 2.0 * rank * (inputs + outputs)
        backward = 2.0 * rank * (trained_a * inputs + (1 + (trained_a or differentiated)) * outputs)
        backward += differentiated * 2.0 * rank * inputs
        if not config.get("dora", False):
            return MatrixCost(parameters, forward, backward)
        if float(config.get("dropout", 0.0)) > 0:
            forward += 2 * inputs * outputs
            # peft wraps a transposed weight in a new parameter, whose unused gradient autograd computes.
            backward += (differentiated + matrix.conv1d) * 2 * inputs * outputs
        return MatrixCost(
            parameters + outputs, forward, backward, step=2.0 * rank * inputs * (inputs + outputs)
        )

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        """Return the bytes with a frozen A included, which is part of the adapter and random in every trial."""
        if not config.get("freeze_a", False):
            return None
        dora = bool(config.get("dora", False))
        numbers = sum(_matrix_rank(config, m) * (m.inputs + m.outputs) + dora * m.outputs for m in matrices)
        return 0, 4 * numbers

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
    return min(rank, matrix.inputs, matrix.outputs) if config.get("init") == "pissa" else rank


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
