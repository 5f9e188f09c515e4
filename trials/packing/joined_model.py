"""Several adapted models as one: the frozen base model runs once over all rows, each adapter over its own rows.

A pack's models are copies of one module tree that share the base model's tensors (see `trials/base/model.py`), so
their paths are equal, and a model with an adapter at a path has another module there than the base model. The joined
model is one more copy with a `Joined` at each such path. It runs the base model's module once on all rows, and passes
each model's own module the model's rows together with the base model's output for them. An adapter layer of any
kind, from any library, therefore computes the same as in its own model; only the product with the frozen matrix is
shared.

The rows of one model are contiguous in a batch; `Rows` holds their ranges.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from search_spaces.errors import AutotuneError
from search_spaces.model.shape import ModelShape
from trials.base.quantization import quantized_parts
from trials.packing.layer_gates import Gate, LayerSchedule, reads_first_token
from trials.packing.lora import Factors, add_products, computes_as_stored, plain_factors


@dataclass
class Rows:
    """The owner of each row of the current batch: (model key, rows), in the order of the batch."""

    parts: list[tuple[int, slice]] = field(default_factory=list)


class CannotJoinError(AutotuneError, ValueError):
    """The model changes more than the base model's modules, so it cannot be part of a joined model."""


def join(
    base: nn.Module,
    models: Mapping[int, PeftModel],
    rows: Rows,
    layers_path: str | None = None,
    schedule: LayerSchedule | None = None,
) -> nn.Module:
    """Build one model from several adapted ones.

    Args:
        base: The base model that they adapt; its tensors are shared, and it stays unchanged.
        models: Peft models of copies of the base model, by key. Their adapter layers become part of the result, and
            still work in their own models.
        rows: The owners of the rows, which the caller sets before each forward pass.
        layers_path: The path of the list of layers; if it is given, each layer gets a gate.
        schedule: The layers that the gates run (see `layer_gates.py`).

    Raises:
        CannotJoinError: A model trains something at no path of the base model, or something that reads positions,
            which are equal for all rows and therefore belong to no model.
    """
    if getattr(getattr(base, "config", None), "relative_attention", False):
        raise CannotJoinError(
            "the base model multiplies its matrices with relative positions, which are not rows"
        )
    trees = {key: model.get_base_model() for key, model in models.items()}
    for key, tree in trees.items():
        if _attention(tree) != _attention(base):
            raise CannotJoinError(f"model {key} uses another attention implementation")
        tuner = models[key].base_model
        if isinstance(tuner, BaseTuner) and _adds_to_loss(tuner):
            raise CannotJoinError(
                f"model {key} adds to the loss (AdaLoRA's penalty or a balance of experts, say)"
            )
    shared = (*base.parameters(), *base.buffers(), *quantized_parts(base))
    joined = copy.deepcopy(base, {id(part): part for part in shared})
    config: Any = getattr(joined, "config", None)
    if config is not None:
        config.use_cache = False  # no next token is generated, so keys and values need not be copied
    for path, modules in _changed(base, trees):
        module = base.get_submodule(path)
        if isinstance(module, nn.Embedding) and module is not _token_embeddings(base):
            raise CannotJoinError(f"models {sorted(modules)} train {path}, which is no token embedding")
        if any(isinstance(own, ParamWrapper) for own in modules.values()):
            raise CannotJoinError(
                f"models {sorted(modules)} adapt the parameters of {path}, which is no matrix"
            )
        joined.set_submodule(path, Joined(joined.get_submodule(path), modules, rows))
    reached = {id(parameter) for parameter in joined.parameters()}
    for key, model in models.items():
        if not all(id(p) in reached for p in model.parameters() if p.requires_grad):
            raise CannotJoinError(f"model {key} trains parameters outside the base model's modules")
    if layers_path is not None and schedule is not None:
        layers = list(joined.get_submodule(layers_path).children())
        for number, layer in enumerate(layers):
            pooled = number == len(layers) - 1 and reads_first_token(base)
            joined.set_submodule(f"{layers_path}.{number}", Gate(layer, number, schedule, pooled))
    return joined


def frozen_layers(base: nn.Module, model: PeftModel, shape: ModelShape) -> int:
    """Return the number of lowest layers that the adapted model leaves unchanged, with everything below them.

    In an encoder-decoder these are layers of the encoder: all of them if only the decoder or the head is adapted.
    """
    above = (
        *shape.head_modules,
        *(matrix.name for matrix in shape.head),
        *(norm.name for norm in shape.norms if norm.place == "final"),
        *([shape.decoder_path] if shape.decoder_path is not None else []),
    )
    lowest = shape.encoder_depth
    for path, _ in _changed(base, {0: model.get_base_model()}):
        if path.startswith(f"{shape.layers_path}."):
            lowest = min(lowest, int(path.removeprefix(f"{shape.layers_path}.").split(".")[0]))
        elif not any(path == name or path.startswith(f"{name}.") for name in above):
            return 0
    return lowest


def _changed(base: nn.Module, models: Mapping[int, nn.Module]) -> Iterator[tuple[str, dict[int, nn.Module]]]:
    """Yield the highest paths at which a model has another type of module than the base model, with the modules."""

    def walk(path: str, module: nn.Module) -> Iterator[tuple[str, dict[int, nn.Module]]]:
        changed = {
            key: other
            for key, model in models.items()
            if type(other := model.get_submodule(path)) is not type(module)
        }
        if changed:
            yield path, changed
            return
        for name, child in module.named_children():
            yield from walk(f"{path}.{name}" if path else name, child)

    yield from walk("", base)


def _adds_to_loss(tuner: BaseTuner) -> bool:
    """Return what a tuner says of itself; peft's own tuners with another forward pass add to the loss there."""
    stated: bool | None = getattr(tuner, "adds_to_loss", None)
    return type(tuner).forward is not BaseTuner.forward if stated is None else stated


def _token_embeddings(model: Any) -> nn.Module | None:
    embeddings: nn.Module | None = model.get_input_embeddings()
    return embeddings


def _attention(model: nn.Module) -> str | None:
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


class Joined(nn.Module):
    """A module of the base model and the models' own modules at the same path."""

    def __init__(self, base: nn.Module, own: Mapping[int, nn.Module], rows: Rows) -> None:
        super().__init__()
        self.base = base
        self.own = nn.ModuleDict({str(key): module for key, module in own.items()})
        self._rows = rows
        self._plain = {key: plain for key, module in own.items() if (plain := plain_factors(module, base))}
        self._shared = {
            key: shared for key, module in own.items() if (shared := _shared_output(module, base)) is not None
        }

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the base module on all rows and each model's own module on its rows."""
        parts, whole = self._rows.parts, self._rows.parts[-1][1].stop
        if len(x) == 1 and whole > 1:
            x = x.expand(whole, *x.shape[1:])  # for example positions, which are the same for all rows
        elif len(x) != whole:
            parts = _of_tokens(parts, x)
        if (factors := self._factors(x, parts)) is not None and not args and not kwargs:
            assert isinstance(self.base, nn.Linear)  # `plain_factors` accepts nothing else
            return add_products(x, self.base, factors)
        shared = None
        if any(key in self._shared or str(key) not in self.own for key, _ in parts):
            shared = self.base(x, *args, **kwargs)
        # Split, because the gradient of a slice is as large as the whole tensor.
        sizes = [rows.stop - rows.start for _, rows in parts]
        inputs = x.split(sizes)
        # Some layers of peft add to their base output in place. Autograd need not track that here: the parts do not
        # overlap, the whole is not read again, and products save their inputs and not their output.
        bases: Sequence[torch.Tensor | None] = (
            [None] * len(parts) if shared is None else torch.unsafe_split_with_sizes(shared, sizes)
        )
        outputs: list[torch.Tensor] = []
        for (key, _), mine, given in zip(parts, inputs, bases, strict=True):
            if str(key) not in self.own:
                assert given is not None
                outputs.append(given)
            elif key in self._shared:
                assert given is not None
                with self._shared[key].given(mine, given):
                    outputs.append(self.own[str(key)](mine, *args, **kwargs))
            else:
                outputs.append(self.own[str(key)](mine, *args, **kwargs))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _factors(
        self, x: torch.Tensor, parts: list[tuple[int, slice]]
    ) -> list[tuple[slice, Factors | None]] | None:
        """Return each part's plain LoRA factors, or None if an adapter of another kind is among them.

        A part without an adapter at this path has None in the place of its factors.
        """
        if not self._plain or not computes_as_stored(self.base, x):
            return None
        found: list[tuple[slice, Factors | None]] = []
        for key, rows in parts:
            own = self._plain.get(key)
            if (own is None and str(key) in self.own) or (own is not None and own.dropout.training):
                return None
            found.append((rows, own))
        return found

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the base module: some architectures read a matrix's weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)


def _of_tokens(parts: list[tuple[int, slice]], x: torch.Tensor) -> list[tuple[int, slice]]:
    """Return the owners of the tokens of all rows, one after another, as blocks of experts pass them on.

    Raises:
        RuntimeError: The input has another form; its configurations are then run by themselves.
    """
    tokens, rest = divmod(len(x), parts[-1][1].stop)
    if x.dim() != 2 or rest or not tokens:
        raise RuntimeError(f"an adapted module reads {tuple(x.shape)}, which are no rows of the batch")
    return [(key, slice(rows.start * tokens, rows.stop * tokens)) for key, rows in parts]


class _SharedOutput:
    """Lets an adapter layer use the output that the joined model's base module computed for all rows.

    While `given` is active, the adapter's base layer returns the prepared output for the prepared input. For any
    other input (an adapter may change it first, as OFT does), and with other weights in the place of its own
    (`torch.func.functional_call`), it computes as usual. The base layer is an object of this model only: models share
    tensors, not modules.

    Args:
        layer: The adapter's base layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._weights = tuple(layer.parameters())

    @contextmanager
    def given(self, x: torch.Tensor, y: torch.Tensor) -> Iterator[None]:
        """Return `y` where the base layer is called with `x`."""
        layer, weights = self._layer, self._weights
        compute, is_replaced = layer.forward, "forward" in vars(layer)

        def forward(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            is_prepared = inputs is x and all(map(operator.is_, layer.parameters(), weights))
            return y if is_prepared else compute(inputs, *args, **kwargs)

        layer.forward = forward
        try:
            yield
        finally:
            if is_replaced:
                layer.forward = compute
            else:
                del layer.forward


def _shared_output(module: nn.Module, base: nn.Module) -> _SharedOutput | None:
    """Return how an adapter layer uses the base model's output at its place, or None if it cannot.

    It cannot if it has no wrapped layer (a trained copy of the head, say), or computes with other weights than the
    base model's: PiSSA stores different ones there, and full tuning and BitFit replace them in each forward pass.
    """
    layer = getattr(module, "base_layer", None)
    if not isinstance(layer, nn.Module):
        return None
    parts = getattr(module, "composite_parts", {})
    if any(part.replaces for placed in parts.values() for part in placed):
        return None
    theirs, ours = dict(layer.named_parameters()), dict(base.named_parameters())
    if any(name in theirs and theirs[name].data_ptr() != ours[name].data_ptr() for name in ours):
        return None
    return _SharedOutput(layer)
