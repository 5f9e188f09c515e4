"""What an adapter family is: its knobs, what it costs, how peft builds it and which models it fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_spaces.parameters import Parameter, Value
from search_spaces.shapes import ModelShape, TaskType

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["REGISTRY", "AdapterCost", "Family", "TaskType", "local_config", "register"]


@dataclass(frozen=True)
class AdapterCost:
    """What one adapter adds to its base in training.

    Args:
        parameters: trainable parameters of the adapter, the head excluded.
        lowest_layer: the lowest layer with a trainable parameter: backpropagation ends there. The number
            of layers where only the head trains, -1 where the embeddings' output or the input must be
            differentiated (prompts).
        lowest_sites: where in that layer gradients first arise, as `backward.LayerGradients` names it. In an
            encoder-decoder they hold for every adapted layer.
        forward_flops: FLOPs that the adapter adds to the forward pass, per token, unmerged.
        backward_flops: FLOPs that the adapter adds to the backward pass, per token: the gradients of its
            own weights and of its inputs.
        step_flops: FLOPs that the adapter adds to each forward pass, whatever the size of the batch.
        extra_tokens: virtual tokens in front of every sequence that pass through the whole model.
        extra_keys: virtual tokens that only attention sees, as keys and values in every layer.
        mergeable: whether the adapter can be folded into the base's weights for inference.
        adapted_layers: the layers that train something, lowest first; left empty, all from the lowest one up.
            Only the costs of an encoder-decoder depend on it.
        forward_step_flops: the part of `step_flops` in the forward pass of an adapter that does not merge.
    """

    parameters: int
    lowest_layer: int
    lowest_sites: frozenset[str] = frozenset()
    forward_flops: float = 0.0
    backward_flops: float = 0.0
    step_flops: float = 0.0
    extra_tokens: int = 0
    extra_keys: int = 0
    mergeable: bool = False
    adapted_layers: tuple[int, ...] = ()
    forward_step_flops: float = 0.0


class Family(ABC):
    """One kind of adapter. Implementations are stateless; one instance stands in the registry.

    Every method takes `config` with the family's own knobs under their local names (`rank`, not
    `lora.rank`), as `local_config` cuts them out of a configuration.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The name as printed, with the paper's short citation."""
    knobs: ClassVar[tuple[Parameter, ...]]
    """The family's own parameters under local names, `learning_rate` among them."""

    @abstractmethod
    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        """Why the family cannot work on this model and task, or None if it can."""

    @abstractmethod
    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """What the adapter adds, in closed form."""

    @abstractmethod
    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        """A new peft configuration (never shared: peft writes into it)."""


def local_config(family: str, config: Mapping[str, Value]) -> dict[str, Value]:
    """The knobs of `family` under their local names."""
    prefix = f"{family}."
    return {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}


REGISTRY: dict[str, Family] = {}
"""Every family by name. `search_spaces.families` fills it on import."""


def register(family: type[Family]) -> type[Family]:
    """Class decorator that puts one instance of a family into the registry.

    Raises:
        ValueError: another family has the name already.
    """
    if family.name in REGISTRY:
        raise ValueError(f"family: {family.name!r} is registered already; choose another name")
    REGISTRY[family.name] = family()
    return family
