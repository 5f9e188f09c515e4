"""MoLoRA: a mixture of LoRA experts on each matrix, with a router per matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import (
    CompositeFamily,
    LayerState,
    PartCost,
    PlannedPart,
)
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, layers_with
from search_spaces.families.framework.matrix_parts import LowRankPart
from search_spaces.families.framework.saved_activations import SavedActivations, input_of
from search_spaces.families.lora import REFERENCE_RANK
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.structured import rank_at, selected_targets, varies_by_layer
from search_spaces.parameters.types import Categorical, Float, Int, Value

_DEFAULT_EXPERTS, _DEFAULT_TOP_K, _DEFAULT_BALANCE = 4, 2, 0.01
_MOST_EXPERTS = 16
"""The largest number of experts of a layer that a profile gives."""
_ROUTERS = {"top-k": "top_k", "threshold": "threshold", "soft": "soft"}
"""The names of the routers in the tuner."""
_ROUTED = 11.0
"""Numbers of fp32 per token and active expert for four 64-bit indices and three weights."""
_BALANCED = ("top-k", "threshold")
"""The routers with a balance loss: all experts of a soft router are active."""


@dataclass(frozen=True)
class MixturePart(PlannedPart):
    """A mixture of LoRA experts on some matrices of each layer.

    Args:
        size: the rank of each expert.
        matrices: targets in the notation of `ModelShape.select`.
        scale: factor on the update.
        experts: number of experts, at least 2.
        router: the kind of router: `top-k`, `threshold` or `soft`.
        top_k: number of active experts per token with a top-k router.
        balance: weight of the balance loss.
    """

    size: int
    matrices: str
    scale: float
    experts: int
    router: str
    top_k: int
    balance: float
    kind: ClassVar[str] = "mixture"

    @property
    def active(self) -> int:
        """Number of experts that are computed for a token."""
        return min(self.top_k, self.experts) if self.router == "top-k" else self.experts

    @property
    def logits(self) -> int:
        """Number of outputs of the router, with that of the threshold."""
        return self.experts + (self.router == "threshold")

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset(matrix.site for matrix in shape.in_layer(layer, self.matrices))

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self.sites(shape, layer)

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """Return the cost: all experts are parameters, and the active ones are computed.

        The weights of the experts and the balance loss are elementwise.
        """
        parameters, forward, backward, step, forward_step = 0, 0.0, 0.0, 0.0, 0.0
        for matrix in shape.in_layer(layer, self.matrices):
            differentiated = state.gradients.reads(matrix.site)
            parameters += self.experts * self.size * (matrix.inputs + matrix.outputs)
            parameters += self.logits * matrix.inputs + (self.router == "threshold")
            share = shape.target_shares.in_layer(matrix)
            forward += share * self._forward(matrix)
            backward += share * self._backward(matrix, differentiated)
            # Relative positions that pass through the matrix need no gradient.
            forward_step += matrix.positions * self._forward(matrix)
            step += matrix.positions * (self._forward(matrix) + self._backward(matrix, False))
        return PartCost(parameters, forward, backward, step, forward_step)

    def _forward(self, matrix: Matrix) -> float:
        width = self.active * self.size
        return 2.0 * width * (matrix.inputs + matrix.outputs) + 2.0 * self.logits * matrix.inputs

    def _backward(self, matrix: Matrix, differentiated: bool) -> float:
        width = self.active * self.size
        into = 2.0 * (width + self.logits) * matrix.inputs
        return 4.0 * width * matrix.outputs + into * (1 + differentiated)

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select(self.matrices))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {
            "size": self.size,
            "scale": self.scale,
            "experts": self.experts,
            "router": _ROUTERS[self.router],
            "top_k": self.top_k,
            "balance": self.balance,
        }

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the inputs of the matrices and what the router and the experts keep of each token.

        A top-k router copies the inputs of a token for each of its experts, with the indices of experts and tokens.
        """
        matrices = shape.in_layer(layer, self.matrices)
        own = 2.0 * self.active * self.size + self.experts
        copies = self.active if self.router == "top-k" else 0
        per_token = sum(own + copies * (matrix.inputs + _ROUTED) for matrix in matrices)
        return SavedActivations(frozenset(map(input_of, matrices)), per_token)


@register
class MoLora(CompositeFamily):
    """Trains E LoRA experts per matrix and a router, W x + m · Σₑ wₑ(x) Bₑ Aₑ x.

    * `experts` is E, and `{profile: true}` gives it by layer: a slope above 0 is MoLA's inverted triangle with more
      experts near the output, one below 0 its triangle, and a bump below 0 its hourglass (Gao et al., 2024, arXiv
      2402.08562). A layer with one expert has plain LoRA and no router.
    * `router`: "top-k" weighs the `top_k` experts with the largest probabilities of each token and computes only
      those (MixLoRA, Li et al., 2024, arXiv 2404.15159). "threshold" weighs the experts above a threshold that is
      computed from the token (AdaMoLE, Liu and Luo, 2024, arXiv 2405.00361). "soft" weighs all by their
      probabilities. The last two compute all experts.
    * `balance` is the weight of MixLoRA's loss for equal use of the experts; it is part of the training loss, not of
      the reported loss. It is a mean over a whole batch, so configurations with it are not packed.
    * `scale` is the multiplier m at rank 8, as for LoRA; at rank r it is `scale` · 8/r. The rank is that of each
      expert.
    """

    name = "molora"
    title = "mixture of LoRA experts (MixLoRA, MoLA, AdaMoLE, 2024)"
    quantized = True
    formula = "E r(i+o) + E i parameters per matrix, i+1 more with a threshold; r(i+o) if E = 1"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="experts", low=2, high=8, log=True, default=_DEFAULT_EXPERTS, by_layer=True),
        Categorical(name="router", choices=tuple(_ROUTERS)),
        Int(name="top_k", low=1, high=4, default=_DEFAULT_TOP_K, when={"router": ("top-k",)}),
        Categorical(
            name="balance",
            choices=(0.0, 0.001, 0.01, 0.1),
            default=_DEFAULT_BALANCE,
            ordered=True,
            when={"router": _BALANCED},
        ),
        Int(name="rank", low=1, high=32, log=True, default=REFERENCE_RANK),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        targets = selected_targets(config, "targets", str(TARGETS.default))
        layers = layers_with(shape.select(targets), config, shape)
        rank = int(config.get("rank", REFERENCE_RANK))
        scale = float(config.get("scale", 2.0)) * REFERENCE_RANK / rank
        router = str(config.get("router", "top-k"))
        top_k = int(config.get("top_k", _DEFAULT_TOP_K))
        balance = float(config.get("balance", _DEFAULT_BALANCE)) if router in _BALANCED else 0.0
        by_count: dict[int, list[int]] = {}
        for layer in layers:
            by_count.setdefault(_experts(config, layer, shape), []).append(layer)
        return [
            LowRankPart(tuple(those), rank, targets, scale)
            if count == 1
            else MixturePart(tuple(those), rank, targets, scale, count, router, top_k, balance)
            for count, those in sorted(by_count.items())
        ]


def _experts(config: Mapping[str, Value], layer: int, shape: ModelShape) -> int:
    """Return the number of experts in a layer."""
    if varies_by_layer(config, "experts"):
        return rank_at(config, "experts", layer, shape.depth, _MOST_EXPERTS, shape.decoder_depth)
    return int(config.get("experts", _DEFAULT_EXPERTS))
