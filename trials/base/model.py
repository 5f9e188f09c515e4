"""The frozen base model, loaded once, and adapters on copies of its module tree.

peft modifies the model that it wraps, and removing an adapter leaves traces (a trained head, wrapped normalizations).
So nothing is ever removed: each trial wraps a copy of the module tree with the base model's own tensors, which takes
milliseconds and no memory, and discards it. Only the head's tensors are copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Value
from trials.base import processor
from trials.base.attention import attends_in_fp32, attention_context, check_attention
from trials.base.checkpointing import checkpoint_layers, is_checkpointed
from trials.base.frozen_linear import FrozenLinear, replace_linear
from trials.base.half_precision import multiply_in_bf16, store_in_bf16
from trials.base.initialization import Pass, initialize, no_passes
from trials.base.int8_linear import Int8Form, check_int8
from trials.base.parameter_groups import freeze
from trials.base.placement import first_device
from trials.base.pretrained import check_complete, loading_errors, read_pretrained
from trials.base.quantization import check_quantized, freeze_layout, quantization, quantized_parts
from trials.base.token_choice import complete_config
from trials.data.task_data import TaskData
from trials.reading.encoding import Encoded
from trials.reading.special_tokens import match_tokens
from trials.tasks.specs import ModelSpec, TaskSpec, resolve_model

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


@dataclass(frozen=True)
class Base:
    """A pre-trained model with a head for one task.

    Args:
        model: The frozen model, on its device; its head in fp32, the rest in the format of `ModelSpec.weights`.
        shape: The model's shape, from which costs and families are computed.
        task: The task.
        device: The device of the model.
        autocast: The dtype of the forward and backward pass; fp32 means no autocast, also where the frozen matrices
            alone are multiplied in another format.
        new_heads: The paths of the head's modules whose weights are not in the checkpoint. Every trial initializes
            them from its seed.
        unquantized: Reads the base model again, on the CPU and before quantization; None if it is not quantized.
        is_sharded: Whether its parts are on several devices, of which `device` is the first.
        references: What the model says of examples, by the example's id, see `trials.training.references`.
    """

    model: nn.Module
    shape: ModelShape
    task: TaskSpec
    device: torch.device
    autocast: torch.dtype
    new_heads: tuple[str, ...]
    unquantized: Callable[[], nn.Module] | None = None
    is_sharded: bool = False
    references: dict[int, tuple[Encoded, Encoded]] = field(default_factory=dict, repr=False, compare=False)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute forward passes in the base model's precision."""
        is_half = self.autocast != torch.float32
        with (
            torch.autocast(self.device.type, dtype=self.autocast, enabled=is_half),
            attention_context(self.device, self.autocast),
        ):
            yield

    @property
    def is_fused(self) -> bool:
        """Whether attention is one of PyTorch's fused kernels."""
        return getattr(self.model.config, "_attn_implementation", None) == "sdpa"

    @property
    def attends_in_fp32(self) -> bool:
        """Whether attention is computed in fp32 although autocast is on."""
        return attends_in_fp32(self.device, self.autocast)

    @property
    def is_checkpointed(self) -> bool:
        """Whether the layers run again in the backward pass."""
        return is_checkpointed(self.model)

    @property
    def products(self) -> str:
        """The number format in which the layers' frozen matrices are multiplied: fp32, bf16 or int8."""
        forms = {type(module.own_form) for module in self.model.modules() if isinstance(module, FrozenLinear)}
        if forms:
            return "int8" if Int8Form in forms else "bf16"
        return "fp32" if self.autocast == torch.float32 else "bf16"

    def skeleton(self) -> nn.Module:
        """Return a copy of the module tree whose tensors share the base model's memory, except the head's.

        They are separate tensor objects, so an adapter that replaces a frozen weight (PiSSA) changes only this copy.
        """
        heads = (self.model.get_submodule(name) for name in self.shape.head_modules)
        own = {id(tensor) for head in heads for tensor in _tensors(head)}
        shared = {id(tensor): _alias(tensor) for tensor in _tensors(self.model) if id(tensor) not in own}
        if self.shape.quantized:
            shared |= {id(part): part for part in quantized_parts(self.model)}
        return copy.deepcopy(self.model, shared)

    def adapted(
        self,
        config: Mapping[str, Value],
        seed: int,
        passes: Callable[[int], Sequence[Pass]] = no_passes,
    ) -> PeftModel:
        """Return a model with a new adapter and head, initialized from `seed`, on the shared base model.

        Args:
            config: The configuration.
            seed: The seed of the initial values.
            passes: Returns a number of training batches, from which some adapters get their initial values.
        """
        from peft import PeftModel, get_peft_model

        family, values = REGISTRY[str(config["family"])], local_config(str(config["family"]), config)
        torch.manual_seed(seed)
        model = self.skeleton()
        for name in self.new_heads:
            _draw_head(model.get_submodule(name), self.initializer_range)
        peft_config = family.peft_config(values, self.shape, self.task.shape_task)
        if family.owns_weights(values):
            _own_matrices(model, peft_config)
        preparation = family.preparation(values)
        read = passes(preparation.batches) if preparation is not None else ()
        if preparation is not None:
            complete_config(peft_config, preparation.method, read)
        adapted = get_peft_model(model, peft_config)
        assert isinstance(adapted, PeftModel)  # peft's class for mixed adapters is another one
        if preparation is not None:
            adapted.eval()
            initialize(adapted, preparation.method, read, self._original_weights())
        freeze(adapted, family.learning_rate_factors(values))
        return adapted

    def _original_weights(self) -> Callable[[str], torch.Tensor] | None:
        """Return a function from a module's path to its weight before quantization; the first call reads them."""
        if (read := self.unquantized) is None:
            return None
        model = cache(read)
        return lambda path: cast(torch.Tensor, model().get_submodule(path).weight)

    @property
    def initializer_range(self) -> float:
        """The standard deviation of the base model's own initialization."""
        return float(getattr(self.model.config, "initializer_range", 0.02))


def load_base(spec: ModelSpec, task: TaskSpec, data: TaskData) -> Base:
    """Load the base model with a head for the task.

    Raises:
        InvalidInputError: There is no such model, it has no weights in safetensors, or it has no head for the task.
    """
    options: dict[str, Any] = {"dtype": torch.bfloat16 if spec.weights == "bf16" else torch.float32}
    device, shape = choose_device(spec.device), None
    check_machine(spec)
    if spec.quantized:  # the unquantized modules must be known before the weights are read
        with loading_errors(spec, task):
            shape = read_shape(
                resolve_model(spec.name),
                task.shape_task,
                labels=data.outputs,
                trust_remote_code=spec.trust_remote_code,
                quantized=True,
                layers=spec.share_of_layers,
            )
            options["quantization_config"] = quantization(spec, shape)
            options["device_map"] = {"": _with_index(device)}  # else transformers takes the current GPU
    if spec.device_map is not None:
        options["device_map"] = spec.device_map
    model, fresh = read_pretrained(spec, task, data.outputs, **options)
    shape = shape or read_shape(model.config, task.shape_task, labels=data.outputs)
    shape = shape.with_new_head_parts(fresh)
    new_heads = tuple(name for name in shape.head_modules if any(key.startswith(f"{name}.") for key in fresh))
    check_complete(spec, task, fresh, shape.head_modules)
    match_tokens(model, data.tokenizer)
    model.requires_grad_(False)
    if spec.quantized:
        freeze_layout(model)
    if spec.device_map is not None:
        device = first_device(model)
    elif not spec.quantized:
        model.to(device)
    for name in shape.head_modules:
        model.get_submodule(name).float()
    autocast = _compute_in(spec, model, shape, device)
    if spec.gradient_checkpointing:
        checkpoint_layers(model, shape, partial(attention_context, device, autocast))
    unquantized = partial(_read_unquantized, spec, task, data.outputs) if spec.quantized else None
    is_sharded = spec.device_map is not None
    return Base(model, shape, task, device, autocast, new_heads, unquantized, is_sharded)


def _read_unquantized(spec: ModelSpec, task: TaskSpec, outputs: int) -> nn.Module:
    return read_pretrained(spec, task, outputs, dtype=torch.float32)[0]


def _compute_in(spec: ModelSpec, model: nn.Module, shape: ModelShape, device: torch.device) -> torch.dtype:
    """Prepare the frozen matrices for the spec's precision, and return the dtype of autocast.

    Raises:
        InvalidInputError: The layers have no modules that int8 can multiply.
    """
    if spec.precision == "int8" and not replace_linear(model.get_submodule(shape.layers_path), Int8Form):
        what = f"the layers of {spec.name!r} have no linear modules, which int8 needs"
        raise InvalidInputError(Problem("model.precision", what, "Write fp32."))
    if spec.weights == "bf16":
        return torch.bfloat16
    dtype = choose_dtype(spec.precision, device)
    if dtype == torch.float32 or spec.quantized:
        return dtype
    if device.type == "cpu" and multiply_in_bf16(model, shape):
        return torch.float32
    store_in_bf16(model, shape)
    return dtype


def check_base(spec: ModelSpec, task: TaskSpec, data: TaskData) -> None:
    """Check that `load_base` can load the base model, without memory for its weights.

    The weights are downloaded if necessary, and their names and sizes are compared.

    Raises:
        InvalidInputError: As in `load_base`.
    """
    model, fresh = read_pretrained(spec, task, data.outputs, device_map="meta")
    shape = read_shape(model.config, task.shape_task, labels=data.outputs).with_new_head_parts(fresh)
    check_complete(spec, task, fresh, shape.head_modules)


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA, then Apple's GPU, then the CPU.

    Raises:
        InvalidInputError: There is no such device.
    """
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise InvalidInputError(
                Problem("model.device", f"{name!r} is not a torch device", "Use auto, cpu, cuda or cuda:0.")
            ) from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _with_index(device: torch.device) -> torch.device:
    """Return the device with the number of its GPU."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def check_machine(spec: ModelSpec) -> None:
    """Reject attention that this machine cannot compute, and number formats that it multiplies no faster than fp32.

    Raises:
        InvalidInputError: The machine does not support `attn_implementation`, `precision` or `weights` of the spec.
    """
    device = choose_device(spec.device)
    check_attention(spec, device)
    if spec.precision == "int8":
        check_int8(device)
    if spec.quantized:
        check_quantized(spec, device)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the forward and backward pass.

    It is bf16 if that is requested, or with `auto` on hardware that multiplies it; otherwise fp32, also for int8.
    """
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto":
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        if device.type == "cpu" and processor.multiplies_bf16():
            return torch.bfloat16
    return torch.float32


def training_mode(model: nn.Module) -> None:
    """Switch the base model's dropout off and the adapter's on.

    A trial is short and most of its model is frozen, so dropout in the base model adds more noise than
    regularization. Without it, the layers below the lowest adapter compute the same in every epoch and for every
    configuration. An exported run uses the dropout of the base model's own configuration.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model.eval()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train()


def trainable_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters, adapter and head together."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _alias(tensor: torch.Tensor) -> torch.Tensor:
    """Return another tensor, or frozen parameter, in the same memory; a quantized one never changes and is shared."""
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        return tensor
    alias = tensor.detach()
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias


def _own_matrices(model: nn.Module, peft_config: PeftConfig) -> None:
    """Give the matrices that an adapter changes in place their own memory."""
    from peft.tuners.tuners_utils import check_target_module_exists

    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and check_target_module_exists(peft_config, path):
            module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)


def _draw_head(head: nn.Module, deviation: float) -> None:
    """Initialize a head as transformers does if the checkpoint lacks it: normal weights, zero biases."""
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
