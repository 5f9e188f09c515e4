"""The interface of an adapter family: its parameters, its cost, its peft configuration and the models it supports."""

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
"""Bytes of one number in fp32, in which adapters are trained and saved."""


class Preparation(NamedTuple):
    """What an adapter's initial values are computed from, before the first training step.

    Args:
        method: the name of the method in `trials/base/initialization.py`.
        batches: number of training batches that are read; 0 if only weights are.
        forward: whether they pass through the base model.
        backward: whether the gradients of the adapted matrices are computed too.
        token_flops: FLOPs per token of these batches, beside those of the base model.
        flops: FLOPs once, beside those of the decompositions.
    """

    method: str
    batches: int
    forward: bool = True
    backward: bool = False
    token_flops: float = 0.0
    flops: float = 0.0


class AdapterCost(NamedTuple):
    """The cost of one adapter on a base model.

    Args:
        parameters: number of trainable parameters, without the head.
        lowest_layer: lowest layer with a trainable parameter, at which backpropagation ends; the number of layers
            if only the head is trained, -1 if the embeddings' output or the input needs a gradient (prompts).
        lowest_sites: sites in that layer at which gradients first arise (see `gradient_flow`).
        forward_flops: FLOPs per token that the unmerged adapter adds to the forward pass.
        backward_flops: FLOPs per token that it adds to the backward pass, for the gradients of its weights and of
            its inputs.
        step_flops: FLOPs that it adds to each training step, independent of the batch size.
        adapter_flops: the share of `step_flops` that each adapter has once, however often its layer runs, such as a
            penalty on its weights.
        forward_step_flops: the share of `step_flops` in the forward pass, which inference repeats if the adapter is
            not merged.
        sequence_flops: FLOPs per sequence that it adds to the backward pass, independent of the length.
        extra_tokens: number of virtual tokens before every sequence that pass through the whole model.
        extra_keys: number of virtual keys and values that attention reads in every layer.
        mergeable: whether the adapter can be merged into the weights of the base model for inference.
        layer_sites: in an encoder-decoder, the adapted layers, lowest first, each with its sites as in
            `lowest_sites`; the gradients of the decoder's layers depend on all of them.
        saved_bytes: bytes of the adapter's tensors in the saved file, without the head; None if these are the
            trainable parameters in fp32.
        preparation: the pass over training data that gives the adapter its initial values, if there is one.
    """

    parameters: int
    lowest_layer: int
    lowest_sites: frozenset[str] = frozenset()
    forward_flops: float = 0.0
    backward_flops: float = 0.0
    step_flops: float = 0.0
    adapter_flops: float = 0.0
    forward_step_flops: float = 0.0
    sequence_flops: float = 0.0
    extra_tokens: int = 0
    extra_keys: int = 0
    mergeable: bool = False
    layer_sites: tuple[tuple[int, frozenset[str]], ...] = ()
    saved_bytes: int | None = None
    preparation: Preparation | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the saved adapter, without the head."""
        return BYTES_PER_NUMBER * self.parameters if self.saved_bytes is None else self.saved_bytes


class Family(ABC):
    """One kind of adapter.

    Implementations are stateless, and the registry holds one instance of each. The argument `config` of all methods
    contains the family's parameters under their local names (`rank`, not `lora.rank`); see `local_config`.
    """

    name: ClassVar[str]
    """The name in space files and configurations."""
    title: ClassVar[str]
    """The name for display, with a short citation."""
    parameters: ClassVar[tuple[Parameter, ...]]
    """The search parameters of the family under local names, including `learning_rate`."""
    mixes_rows: ClassVar[bool] = False
    """Whether the output for one row of a batch depends on the other rows, so that batches cannot be divided."""
    formula: ClassVar[str] = ""
    """Formula of the trainable parameters for the documentation, if the docstring of `cost` has none."""
    quantized: ClassVar[bool] = False
    """Whether it supports weights quantized to 8 or 4 bits, because it neither reads nor changes them."""
    reads_weights: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    """Values, by local parameter name, with which a family that supports quantization reads the weights."""
    trains: ClassVar[frozenset[str]] = frozenset()
    """The tensors of the base model that it trains in place of new ones: `matrices`, `norms`."""
    switches: ClassVar[tuple[str, ...]] = ()
    """Names of groups of boolean parameters `group.*`, in each of which at least one is on."""

    @abstractmethod
    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        """Return why the family does not work on a model and task, or None if it does."""

    @abstractmethod
    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """Return the cost of the adapter in closed form."""

    @abstractmethod
    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        """Return a new peft configuration; it is never shared, because peft modifies it."""

    def preparation(self, config: Mapping[str, Value]) -> Preparation | None:
        """Return how the adapter gets its initial values from training data or weights, or None if peft sets them.

        The result lacks the FLOPs that depend on the model, which `cost` adds.
        """
        return None

    def owns_weights(self, config: Mapping[str, Value]) -> bool:
        """Return whether peft writes to the adapted matrices, so that the model needs its own copies of them."""
        return False

    def excluded(self, shape: ModelShape) -> Mapping[str, Mapping[Value, str]]:
        """Return the values that a model rules out, by local parameter name, each with the reason."""
        if not shape.quantized:
            return {}
        reason = "reads the weights, which are quantized"
        return {name: dict.fromkeys(values, reason) for name, values in self.reads_weights.items()}

    def learning_rate_factors(self, config: Mapping[str, Value]) -> Mapping[str, float]:
        """Return factors on the learning rate, by a component of the dotted parameter name.

        The factor 0 freezes a parameter at its initial value; parameters without a key have the factor 1. Search and
        export use the same factors (`trials/base/parameter_groups.py`).
        """
        return {}

    def schedule(self, peft_config: PeftConfig, steps: int) -> None:
        """Set the fields of a peft configuration that depend on the number of training steps, before the first."""
        return

    def after_step(self, model: PeftModel, step: int) -> None:
        """Update the adapter after optimizer step `step`, counted from 1, before the gradients are cleared."""
        return

    def training_state(self, model: PeftModel) -> dict[str, Tensor]:
        """Return the tensors, by name, that resuming needs in addition to the trained parameters."""
        return {}

    def restore_training_state(self, model: PeftModel, state: Mapping[str, Tensor]) -> None:
        """Load the result of `training_state` into a new model of the same configuration."""
        return


def unsupported_reason(family: Family, shape: ModelShape, task: TaskType) -> str | None:
    """Return why a family does not work on a model, quantization included, or None if it does."""
    if shape.quantized and not family.quantized:
        return "it reads or changes the weights, which are quantized"
    return family.unsupported(shape, task)


def adapter_cost(family: Family, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
    """Return the cost of an adapter on a model, also where the layers share their weights.

    A shared layer has one adapter, which is stored once and computed in every run of the layer: its numbers are those
    of the one layer, and its FLOPs those of as many layers as there are runs.

    Args:
        family: the family of the adapter.
        config: its parameters under their local names.
        shape: shape of the model.
    """
    cost = family.cost(config, shape)
    if shape.repeats == 1:
        return cost
    everywhere = {
        name: value for name, value in config.items() if not _PLACES_LAYERS.intersection(name.split("."))
    }
    runs = family.cost(everywhere, shape.unrolled)
    return runs._replace(
        parameters=cost.parameters,
        saved_bytes=cost.stored_bytes,
        step_flops=runs.step_flops - runs.adapter_flops + cost.adapter_flops,
        adapter_flops=cost.adapter_flops,
        preparation=runs.preparation and runs.preparation._replace(flops=_flops(cost.preparation)),
    )


def _flops(preparation: Preparation | None) -> float:
    return 0.0 if preparation is None else preparation.flops


_PLACES_LAYERS = frozenset({"layers", "slope", "bump"})
"""Components of parameter names that distinguish layers, of which a model with a shared layer has one."""


def local_config(family: str, config: Mapping[str, Value]) -> dict[str, Value]:
    """Return the parameters of a family in a configuration, under their local names."""
    prefix = f"{family}."
    cut = len(prefix)
    return {name[cut:]: value for name, value in config.items() if name.startswith(prefix)}


REGISTRY: dict[str, Family] = {}
"""All families by name; the import of `search_spaces.families` fills it."""


def register(family: type[Family]) -> type[Family]:
    """Register one instance of a family; a class decorator.

    Raises:
        ValueError: Another family has the same name.
    """
    if family.name in REGISTRY:
        raise ValueError(f"family: {family.name!r} is already registered; choose another name")
    REGISTRY[family.name] = family()
    return family
