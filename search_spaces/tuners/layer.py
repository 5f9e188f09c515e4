"""A module of the base model with the parts of its adapters."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from .part import Part, Tensors

Place = tuple["CompositeLayer", str]
"""The location of a tensor: a layer, and the name of its dictionary from adapter to tensor."""


class CompositeLayer(nn.Module, BaseTunerLayer):
    """A wrapped module with parts.

    Each tensor of a part is in the dictionary `composite_<kind>_<name>` by adapter. The wrapped module's parameters
    are never modified, because other models may share them: merging replaces them by new ones, and unmerging
    restores them.

    Args:
        base_layer: the module to wrap.
    """

    other_param_names = ("composite_parts",)
    active_adapters: list[str]

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adapter_layer_names: tuple[str, ...] = ()
        self.composite_parts: dict[str, tuple[Part, ...]] = {}
        self._places: dict[tuple[str, str], dict[str, Place]] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._originals: list[dict[str, nn.Parameter | None]] = []

    def add_adapter(self, adapter: str, parts: Sequence[Part], known: dict[Hashable, Place]) -> None:
        """Add an adapter's parts to the module.

        Args:
            adapter: name of the adapter.
            parts: its parts on this module.
            known: locations of tensors that modules of this adapter share, by key; new ones are added.

        Raises:
            ValueError: Two parts have the same kind, or a part does not support this module.
        """
        kinds = [part.kind for part in parts]
        twice = sorted({name for name in kinds if kinds.count(name) > 1})
        if twice:
            raise ValueError(f"parts: two of kind {twice[0]} have the same target; give each its own layers")
        base = self.base_layer
        device = next(base.parameters()).device
        for part in parts:
            places: dict[str, Place] = {}
            shared = part.shared(base)
            for name, tensor in part.tensors(base).items():
                key = shared.get(name)
                if key is None or key not in known:
                    places[name] = self._keep(adapter, f"composite_{part.kind}_{name}", tensor.to(device))
                    if key is not None:
                        known[key] = places[name]
                else:
                    places[name] = known[key]
            self._places[adapter, part.kind] = places
        self.composite_parts[adapter] = tuple(sorted(parts, key=lambda part: part.order))

    def _keep(self, adapter: str, attribute: str, tensor: torch.Tensor) -> Place:
        if attribute not in self.adapter_layer_names:
            setattr(self, attribute, nn.ParameterDict())
            self.adapter_layer_names = (*self.adapter_layer_names, attribute)
        getattr(self, attribute)[adapter] = nn.Parameter(tensor)
        return self, attribute

    def own(self, adapter: str, part: Part) -> Tensors:
        """Return the tensors of one part, by name."""
        places = self._places[adapter, part.kind]
        return {name: getattr(layer, attribute)[adapter] for name, (layer, attribute) in places.items()}

    def active(self) -> Iterator[tuple[Part, Tensors]]:
        """Iterate over the parts of the active adapters with their tensors, unless they are disabled or merged."""
        if self.disable_adapters or self.merged:
            return
        for adapter in self.active_adapters:
            for part in self.composite_parts.get(adapter, ()):
                yield part, self.own(adapter, part)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the module with the parts of the active adapters; see `part.py` for the order.

        The input is the first argument, which some models (Bamba) pass by name.
        """
        x = args[0] if args else kwargs.pop(next(iter(kwargs)))
        args = args[1:]
        if self.disable_adapters and self.merged:
            self.unmerge()
        active = list(self.active())
        for part, own in active:
            x = part.read(own, x)
        y = self._base(active, x, *args, **kwargs)
        for part, own in active:
            y = part.rewrite(own, x, y)
        added = [more for part, own in active if (more := part.add(own, y)) is not None]
        for more in added:
            y = y + more.to(y.dtype)
        return y

    @property
    def weight(self) -> torch.Tensor:
        """The effective weight, for code of the base model that reads the weight without calling the module.

        DeBERTa does so with the embeddings of its relative positions.
        """
        replacing = [(part, own) for part, own in self.active() if part.replaces]
        return self._replaced(replacing)["weight"] if replacing else super().weight

    def __getattr__(self, name: str) -> Any:
        """Look up children of the wrapped module too, which code of the base model may access (as in ViT)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            base = self.__dict__.get("_modules", {}).get("base_layer")
            if base is not None and name in base._modules:
                return base._modules[name]
            raise

    def _replaced(self, replacing: Sequence[tuple[Part, Tensors]]) -> Tensors:
        """Return the module's parameters after replacement by the given parts."""
        weights: Tensors = dict(self.base_layer.named_parameters())
        for part, own in replacing:
            weights = part.merge(own, weights, isinstance(self.base_layer, Conv1D))
        return weights

    def _base(self, active: Sequence[tuple[Part, Tensors]], *args: Any, **kwargs: Any) -> torch.Tensor:
        replacing = [(part, own) for part, own in active if part.replaces]
        if not replacing:
            return self.base_layer(*args, **kwargs)
        return functional_call(self.base_layer, self._replaced(replacing), args, kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Merge adapters into the module.

        Args:
            safe_merge: whether to check that the merged weights are finite.
            adapter_names: names of the adapters; by default the active ones.

        Raises:
            ValueError: A part cannot be merged, or with `safe_merge` a merged weight is not finite.
        """
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.composite_parts:
                continue
            weights: Tensors = {name: p.detach() for name, p in self.base_layer.named_parameters()}
            for part in self.composite_parts[adapter]:
                if not part.mergeable:
                    raise ValueError(f"a part of kind {part.kind} cannot be merged; use the adapter unmerged")
                own = {name: tensor.detach() for name, tensor in self.own(adapter, part).items()}
                weights = part.merge(own, weights, isinstance(self.base_layer, Conv1D))
            if safe_merge and not all(bool(weight.isfinite().all()) for weight in weights.values()):
                raise ValueError(
                    f"merging {adapter!r} gives weights that are not finite; use the adapter unmerged"
                )
            self._originals.append(self._put(weights))
            self.merged_adapters.append(adapter)

    def _put(self, weights: Tensors) -> dict[str, nn.Parameter | None]:
        """Set new parameters of the wrapped module, and return the previous ones."""
        old: dict[str, nn.Parameter | None] = {}
        for path, weight in weights.items():
            parent, _, name = path.rpartition(".")
            module = self.base_layer.get_submodule(parent)
            old[path] = getattr(module, name)
            module.register_parameter(name, nn.Parameter(weight.detach(), requires_grad=False))
        return old

    def unmerge(self) -> None:
        """Restore the original parameters of the wrapped module, without rounding."""
        while self._originals:
            for path, parameter in self._originals.pop().items():
                parent, _, name = path.rpartition(".")
                self.base_layer.get_submodule(parent).register_parameter(name, parameter)
            self.merged_adapters.pop()

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter and its tensors."""
        super().delete_adapter(adapter_name)
        self._places = {key: places for key, places in self._places.items() if key[0] != adapter_name}
