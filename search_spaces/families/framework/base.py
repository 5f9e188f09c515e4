"""What an adapter family is: its knobs, what it costs, how peft builds it and which models it fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Parameter, Value

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor

__all__ = ["REGISTRY", "AdapterCost", "Family", "TaskType", "local_config", "register"]


BYTES_PER_NUMBER = 4
"""Adapters are trained and saved in fp32."""


class AdapterCost(NamedTuple):
    """What one adapter adds to its base in training.

    Args:
        parameters: trainable parameters of the adapter, the head excluded.
        lowest_layer: the lowest layer with a trainable parameter: backpropagation ends there. The number
            of layers where only the head trains, -1 where the embeddings' output or the input must be
            differentiated (prompts).
        lowest_sites: where in that layer gradients first arise, as `backward.LayerGradients` names it.
        forward_flops: FLOPs that the adapter adds to the forward pass, per token, unmerged.
        backward_flops: FLOPs that the adapter adds to the backward pass, per token: the gradients of its
            own weights and of its inputs.
        step_flops: FLOPs that the adapter adds to each training step, whatever the size of the batch.
        forward_step_flops: the part of `step_flops` that falls on the forward pass, which inference repeats
            where the adapter is not merged.
        sequence_flops: FLOPs that the adapter adds to the backward pass of each sequence, whatever its length.
        extra_tokens: virtual tokens in front of every sequence that pass through the whole model.
        extra_keys: virtual tokens that only attention sees, as keys and values in every layer.
        mergeable: whether the adapter can be folded into the base's weights for inference.
        layer_sites: of an encoder-decoder each layer that trains something, lowest first, and where in it, as
            `lowest_sites`. What its decoder's layers differentiate depends on all of them.
        saved_bytes: bytes of the adapter's tensors in the saved file, the head excluded; None where they are
            its trainable parameters in fp32.
    """

    parameters: int
    lowest_layer: int
    lowest_sites: frozenset[str] = frozenset()
    forward_flops: float = 0.0
    backward_flops: float = 0.0
    step_flops: float = 0.0
    forward_step_flops: float = 0.0
    sequence_flops: float = 0.0
    extra_tokens: int = 0
    extra_keys: int = 0
    mergeable: bool = False
    layer_sites: tuple[tuple[int, frozenset[str]], ...] = ()
    saved_bytes: int | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the saved adapter, the head excluded."""
        return BYTES_PER_NUMBER * self.parameters if self.saved_bytes is None else self.saved_bytes


class Family(ABC):
    """One kind of adapter. Implementations are stateless; one instance stands in the registry.

    Every method takes `config` with the family's own knobs under their local names (`rank`, not
    `lora.rank`), as `local_config` cuts them out of a configuration.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The name as printed, with the paper's short citation."""
    parameters: ClassVar[tuple[Parameter, ...]]
    """The family's own parameters under local names, `learning_rate` among them."""
    mixes_rows: ClassVar[bool] = False
    """Whether what is computed for one row of a batch depends on the others, so that batches cannot be divided."""
    formula: ClassVar[str] = ""
    """Its trainable parameters in short, where the documentation of `cost` does not begin with them."""
    quantized: ClassVar[bool] = False
    """Whether it works on weights quantized to 8 or 4 bits: it neither reads nor changes them."""
    reads_weights: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    """Values of its knobs, by the knob's name, that read the weights all the same."""
    trains: ClassVar[frozenset[str]] = frozenset()
    """What of a layer it trains itself, where it adds nothing of its own: `matrices`, `norms`."""
    switches: ClassVar[tuple[str, ...]] = ()
    """Groups of boolean knobs `group.…` of which one at least is on."""

    @abstractmethod
    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        """Why the family cannot work on this model and task, or None if it can."""

    @abstractmethod
    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """What the adapter adds, in closed form."""

    @abstractmethod
    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        """A new peft configuration (never shared: peft writes into it)."""

    def learning_rate_factors(self, config: Mapping[str, Value]) -> Mapping[str, float]:
        """Factors on the learning rate of the parameters whose name has the key as a dotted part.

        0 freezes them at their initial value. Parameters that no key names have the factor 1. Search and
        export train with the same factors; see `tools.freeze` and `trials.training.run.scale_learning_rates`.
        """
        return {}

    def schedule(self, peft_config: PeftConfig, steps: int) -> None:
        """Write what depends on the length of training into a peft configuration, before the first step."""
        return

    def after_step(self, model: PeftModel, step: int) -> None:
        """Called after each of the optimizer's steps, counted from 1, while the gradients are still there."""
        return

    def training_state(self, model: PeftModel) -> dict[str, Tensor]:
        """What training goes on from beside the trained parameters, by name; for families with `after_step`."""
        return {}

    def restore_training_state(self, model: PeftModel, state: Mapping[str, Tensor]) -> None:
        """Put `training_state` into a new model of the same configuration."""
        return


def refusal(family: Family, shape: ModelShape, task: TaskType) -> str | None:
    """Why a family cannot work on a model as its weights are kept, or None if it can."""
    if shape.quantized and not family.quantized:
        return "it reads or changes the weights themselves, and they are quantized"
    return family.unsupported(shape, task)


def local_config(family: str, config: Mapping[str, Value]) -> dict[str, Value]:
    """The knobs of `family` under their local names."""
    prefix = f"{family}."
    cut = len(prefix)
    return {name[cut:]: value for name, value in config.items() if name.startswith(prefix)}


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
