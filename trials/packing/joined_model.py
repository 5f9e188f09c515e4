"""Several adapted models as one: the frozen base runs once over everybody's rows, each adapter over its own.

A pack's models are copies of one module tree that share the base's tensors (see `models.py`), so their paths
agree, and wherever an adapter stands one of them has another module than the base. The joined model is one
more copy with a `Joined` at each such path: it runs the base's module once on all rows, and hands each
model's own module its rows together with what the base made of them. So an adapter layer of any kind, from
whatever library, computes what it computes alone, and only the product with the frozen matrix is shared.

Rows of one model are contiguous in a batch; `Rows` says which they are.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from search_spaces.errors import AutotuneError
from search_spaces.model.shape import ModelShape
from trials.base.quantization import quantized_parts
from trials.packing.layer_gates import Gate, LayerSchedule, reads_first_token
from trials.packing.lora import Factors, add_products, plain_factors

_ORIGINAL = "_joined_original"


@dataclass
class Rows:
    """Which rows of the batch in hand belong to which model: (key, slice), in the order of the batch."""

    parts: list[tuple[int, slice]] = field(default_factory=list)


class CannotJoinError(AutotuneError, ValueError):
    """A model changes more than the modules of the base, so it has to run alone."""


def join(
    base: nn.Module,
    models: Mapping[int, PeftModel],
    rows: Rows,
    layers_path: str | None = None,
    passage: LayerSchedule | None = None,
) -> nn.Module:
    """One model out of several adapted ones.

    Args:
        base: the model that they adapt; its tensors are shared, and it stays as it is.
        models: peft models of copies of the base, by key. Their adapter layers move into the result, and
            still work where they were.
        rows: what the caller sets before each forward pass.
        layers_path: the path of the list of layers; where it is given, each layer gets a gate.
        passage: what the gates obey (see `layer_gates.py`).

    Raises:
        CannotJoinError: a model trains something that stands at no path of the base, or that reads positions,
            which are the same for all rows and so nobody's.
    """
    if getattr(getattr(base, "config", None), "relative_attention", False):
        raise CannotJoinError("the base multiplies its matrices with relative positions, which are no rows")
    trees = {key: model.get_base_model() for key, model in models.items()}
    for key, tree in trees.items():
        if _attention(tree) != _attention(base):
            raise CannotJoinError(f"model {key} computes attention in its own way")
        tuner = models[key].base_model
        if isinstance(tuner, BaseTuner) and type(tuner).forward is not BaseTuner.forward:
            raise CannotJoinError(f"model {key} adds to the loss (AdaLoRA's penalty, say)")
    shared = (*base.parameters(), *base.buffers(), *quantized_parts(base))
    joined = copy.deepcopy(base, {id(part): part for part in shared})
    config: Any = getattr(joined, "config", None)
    if config is not None:
        config.use_cache = False  # a decoder would copy keys and values for a next token that never comes
    for path, modules in _changed(base, trees):
        module = base.get_submodule(path)
        if isinstance(module, nn.Embedding) and module is not _token_embeddings(base):
            raise CannotJoinError(f"models {sorted(modules)} train {path}, which embeds no tokens")
        joined.set_submodule(path, Joined(joined.get_submodule(path), modules, rows))
    reached = {id(parameter) for parameter in joined.parameters()}
    for key, model in models.items():
        if not all(id(p) in reached for p in model.parameters() if p.requires_grad):
            raise CannotJoinError(f"model {key} trains parameters beside the base's modules")
    if layers_path is not None and passage is not None:
        layers = list(joined.get_submodule(layers_path).children())
        for number, layer in enumerate(layers):
            pooled = number == len(layers) - 1 and reads_first_token(base)
            joined.set_submodule(f"{layers_path}.{number}", Gate(layer, number, passage, pooled))
    return joined


def frozen_layers(base: nn.Module, model: PeftModel, shape: ModelShape) -> int:
    """Layers from the input on that the adapted model leaves as they are, with everything below them."""
    above = (
        *shape.head_modules,
        *(matrix.name for matrix in shape.head),
        *(norm.name for norm in shape.norms if norm.layer == shape.depth),
    )
    lowest = shape.depth
    for path, _ in _changed(base, {0: model.get_base_model()}):
        if path.startswith(f"{shape.layers_path}."):
            lowest = min(lowest, int(path.removeprefix(f"{shape.layers_path}.").split(".")[0]))
        elif not any(path == name or path.startswith(f"{name}.") for name in above):
            return 0
    return lowest


def _changed(base: nn.Module, models: Mapping[int, nn.Module]) -> Iterator[tuple[str, dict[int, nn.Module]]]:
    """The highest paths at which a model has another type of module than the base, with those modules."""

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


def _token_embeddings(model: Any) -> nn.Module | None:
    found: nn.Module | None = model.get_input_embeddings()
    return found


def _attention(model: nn.Module) -> str | None:
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


class Joined(nn.Module):
    """A module of the base and the models' own modules at its place."""

    def __init__(self, base: nn.Module, own: Mapping[int, nn.Module], rows: Rows) -> None:
        super().__init__()
        self.base = base
        self.own = nn.ModuleDict({str(key): module for key, module in own.items()})
        self._rows = rows
        self._plain = {key: plain for key, module in own.items() if (plain := plain_factors(module, base))}
        self._handed = {key: hand for key, module in own.items() if (hand := _hand(module, base)) is not None}

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        parts = self._rows.parts
        if len(x) == 1 and (whole := parts[-1][1].stop) > 1:
            x = x.expand(whole, *x.shape[1:])  # positions, say, which stand for all rows at once
        if (factors := self._factors(x, parts)) is not None and not args and not kwargs:
            assert isinstance(self.base, nn.Linear)  # nothing else is plain
            return add_products(x, self.base, factors)
        shared = None
        if any(key in self._handed or str(key) not in self.own for key, _ in parts):
            shared = self.base(x, *args, **kwargs)
        # Split and not sliced: the gradient of a slice is as large as the whole.
        sizes = [rows.stop - rows.start for _, rows in parts]
        inputs = x.split(sizes)
        # Some layers of peft add into what they are given, which is no business of autograd's here: the parts
        # do not overlap, nobody reads the whole any more, and products keep their inputs and not their output.
        bases: Sequence[torch.Tensor | None] = (
            [None] * len(parts) if shared is None else torch.unsafe_split_with_sizes(shared, sizes)
        )
        outputs: list[torch.Tensor] = []
        for (key, _), mine, given in zip(parts, inputs, bases, strict=True):
            if str(key) not in self.own:
                assert given is not None
                outputs.append(given)
            elif key in self._handed:
                with self._handed[key].given(mine, given):
                    outputs.append(self.own[str(key)](mine, *args, **kwargs))
            else:
                outputs.append(self.own[str(key)](mine, *args, **kwargs))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _factors(
        self, x: torch.Tensor, parts: list[tuple[int, slice]]
    ) -> list[tuple[slice, Factors | None]] | None:
        """Each part's plain LoRA, None for a part without an adapter here; None if there is another kind."""
        if not self._plain or x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type):
            return None
        found: list[tuple[slice, Factors | None]] = []
        for key, rows in parts:
            own = self._plain.get(key)
            if (own is None and str(key) in self.own) or (own is not None and own.dropout.training):
                return None
            found.append((rows, own))
        return found

    def __getattr__(self, name: str) -> Any:
        """Everything else is the base's: some architectures look at a matrix's weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)


class _Hand:
    """Stands in for `base_layer` in an adapter layer: gives the prepared output for the prepared input.

    For any other input (an adapter may change it first, as OFT does), and with other weights in the place of
    its own (`torch.func.functional_call`), it runs the base's module.
    """

    def __init__(self, layer: nn.Module) -> None:
        base = layer.base_layer
        assert isinstance(base, nn.Module)
        base = base.__dict__.get(_ORIGINAL, base)  # a layer may be joined again and again
        twin = copy.copy(base)  # the same tensors in an object of its own, so that isinstance still holds
        twin.__dict__ = dict(base.__dict__)
        self._input: torch.Tensor | None = None
        self._output: torch.Tensor | None = None

        weights = tuple(base.parameters())

        def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            prepared = x is self._input and all(map(operator.is_, base.parameters(), weights))
            return self._output if prepared else base(x, *args, **kwargs)

        twin.__dict__.update({_ORIGINAL: base, "forward": forward})
        layer.base_layer = twin

    def given(self, x: torch.Tensor, y: torch.Tensor | None) -> _Hand:
        assert y is not None
        self._input, self._output = x, y
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._input = self._output = None


def _hand(module: nn.Module, base: nn.Module) -> _Hand | None:
    """None for a module without a base layer (a trained copy of the head, say), and for one that computes with
    other weights than the base's: PiSSA leaves another there, full tuning and BitFit put their own in."""
    layer = getattr(module, "base_layer", None)
    if not isinstance(layer, nn.Module):
        return None
    parts = getattr(module, "composite_parts", {})
    if any(part.replaces for placed in parts.values() for part in placed):
        return None
    theirs, ours = dict(layer.named_parameters()), dict(base.named_parameters())
    if any(name in theirs and theirs[name].data_ptr() != ours[name].data_ptr() for name in ours):
        return None
    return _Hand(module)
