"""A mixture of LoRA experts with a router, as a part of a composite adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import linear

from .part import Part, Tensors, check_positive, kind, sizes
from .routing import Routing

ROUTERS = ("top_k", "threshold", "soft")
"""The kinds of routers."""
ROUTER_DEVIATION = 0.02
"""Standard deviation of a new router's weights, so small that the experts begin with similar probabilities."""


@kind
@dataclass
class Mixture(Part):
    """A mixture of low-rank updates, y + scale · Σₑ wₑ(x) Bₑ Aₑ x on a matrix with input x.

    A router computes the experts' probabilities p = softmax(R x), in fp32. The weights w follow from p:

    * `top_k`: the `top_k` largest p, divided by their sum, and zero for the other experts (MixLoRA, Li et al., 2024,
      arXiv 2404.15159; MoLA, Gao et al., 2024, arXiv 2402.08562). A single p is not divided, so that the router
      learns from it (Fedus et al., 2021, arXiv 2101.03961). A token passes only its own experts.
    * `threshold`: max(p - τ, 0), divided by their sum, with τ = σ(t x + b) / experts, which never exceeds the largest
      p (AdaMoLE, Liu and Luo, 2024, arXiv 2405.00361). All experts are computed, since most are active.
    * `soft`: p. All experts are computed.

    In training, `balance` · experts · Σₑ fₑ p̄ₑ is added to the loss (MixLoRA, eq. 6): fₑ is the share of expert e in
    the batch's pairs of a token and an active expert, and p̄ₑ the mean of pₑ over the tokens. The sum is one if the
    experts are used equally. A soft router has no such loss, because all of its experts are active.

    A has shape [experts, size, inputs], B [outputs, experts, size], and R [experts, inputs].

    Args:
        size: the rank of each expert.
        scale: the factor on the update.
        experts: the number of experts, at least 2; one expert is the part `low_rank`.
        router: the kind of router.
        top_k: number of active experts per token with a `top_k` router; all if there are fewer experts.
        balance: weight of the balance loss.
        routing: the state of the model's routers; set by the model.
    """

    kind: ClassVar[str] = "mixture"
    order: ClassVar[int] = 2

    size: int = 8
    scale: float = 2.0
    experts: int = 4
    router: str = "top_k"
    top_k: int = 2
    balance: float = 0.01
    routing: Routing = field(default_factory=Routing, repr=False)

    def __post_init__(self) -> None:
        check_positive(self, "size", "experts", "top_k")
        if self.experts < 2:
            raise ValueError("experts: 1 needs no router; use the kind low_rank, or give 2 or more")
        if self.router not in ROUTERS:
            raise ValueError(f"router: {self.router!r} is unknown; use one of {', '.join(ROUTERS)}")
        if self.balance < 0:
            raise ValueError(f"balance: {self.balance!r} is negative; give 0 or more")

    @property
    def adds_to_loss(self) -> bool:
        """Whether there is a balance loss."""
        return self.balance > 0 and self.router != "soft"

    def tensors(self, base: nn.Module) -> Tensors:
        inputs, outputs = sizes(base)
        down = torch.empty(self.experts, self.size, inputs)
        for expert in down:
            nn.init.kaiming_uniform_(expert, a=math.sqrt(5))
        found = {
            "A": down,
            "B": torch.zeros(outputs, self.experts, self.size),
            "router": torch.empty(self.experts, inputs).normal_(std=ROUTER_DEVIATION),
        }
        if self.router == "threshold":
            found |= {"threshold": torch.zeros(1, inputs), "threshold_bias": torch.zeros(1)}
        return found

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, x.shape[-1]).to(own["A"].dtype)
        with torch.autocast(x.device.type, enabled=False):
            probabilities = linear(tokens, own["router"]).softmax(-1)
            if self.router == "threshold":
                limit = linear(tokens, own["threshold"], own["threshold_bias"]).sigmoid() / self.experts
                weights = (probabilities - limit).relu()
                weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
            else:
                weights = probabilities
        if self.router == "top_k":
            k = min(self.top_k, self.experts)
            weights, chosen = probabilities.topk(k, dim=-1)
            weights = weights / weights.sum(-1, keepdim=True) if k > 1 else weights
            update = _routed(own, tokens, weights, chosen)
        else:
            chosen = None
            update = _everywhere(own, tokens, weights)
        if self.adds_to_loss and self.routing.is_training:
            active = (
                weights > 0 if chosen is None else torch.zeros_like(probabilities).scatter(1, chosen, 1.0)
            )
            loss = balance_loss(probabilities, active.to(probabilities.dtype), self.routing.mask_of(x))
            self.routing.add(self.balance * loss)
        return y + (self.scale * update).to(y.dtype).view(y.shape)


def balance_loss(
    probabilities: torch.Tensor, active: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return experts · Σₑ fₑ p̄ₑ, which is one if all experts are used equally.

    Args:
        probabilities: the router's probabilities, shape [tokens, experts].
        active: one where an expert is active, else zero, same shape.
        mask: which rows are tokens and not padding, shape [tokens]; None for all.
    """
    if mask is not None:
        probabilities, active = probabilities * mask[:, None], active * mask[:, None]
    shares = active.sum(0) / active.sum().clamp(min=1)
    count = len(probabilities) if mask is None else mask.sum().clamp(min=1)
    return probabilities.shape[1] * (shares * probabilities.sum(0) / count).sum()


def _routed(own: Tensors, tokens: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the update of each token by its chosen experts, shape [tokens, outputs]; others are not computed.

    Args:
        own: the tensors of the part.
        tokens: the inputs, shape [tokens, inputs].
        weights: the weight of each chosen expert, shape [tokens, k].
        chosen: the indices of the chosen experts, same shape.
    """
    k, experts = chosen.shape[1], len(own["A"])
    by_expert = chosen.flatten().argsort(stable=True)
    counts = torch.bincount(chosen.flatten(), minlength=experts).tolist()
    inputs = tokens.index_select(0, by_expert // k).split(counts)
    factors = weights.reshape(-1, 1).index_select(0, by_expert).split(counts)
    outputs = torch.cat(
        [
            linear(factor * linear(x, a), b)
            for x, factor, a, b in zip(inputs, factors, own["A"].unbind(0), own["B"].unbind(1), strict=True)
        ]
    )
    return outputs.index_select(0, by_expert.argsort()).view(len(tokens), k, -1).sum(1)


def _everywhere(own: Tensors, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the update of each token by all experts, shape [tokens, outputs], in two products.

    Args:
        own: the tensors of the part.
        tokens: the inputs, shape [tokens, inputs].
        weights: the weight of each expert, shape [tokens, experts].
    """
    hidden = linear(tokens, own["A"].flatten(0, 1)).view(*weights.shape, -1)
    return linear((weights[..., None] * hidden).flatten(1), own["B"].flatten(1))
