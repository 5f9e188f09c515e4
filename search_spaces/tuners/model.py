"""The tuner, which finds the modules of each part and wraps them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from .attention import with_prefixes, without_prefixes
from .bottleneck import Capture, Parallel
from .config import CompositeConfig
from .copies import Copy
from .layer import CompositeLayer, Place
from .mixture import Mixture
from .part import KINDS, Part, build_part, matches, sizes
from .prefix import Prefix
from .routing import Routing, detach_routing, routing_of


class CompositeModel(BaseTuner):
    """A base model with composite adapters, which peft builds from a `CompositeConfig`."""

    prefix = "composite_"
    tuner_layer_cls = CompositeLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the base model with its hooks, which peft's method leaves out."""
        return self.model(*args, **kwargs)

    @property
    def adds_to_loss(self) -> bool:
        """Whether a part of an active adapter adds a term to the loss in training."""
        parts = [build_part(part) for name in self.active_adapters for part in self.peft_config[name].parts]
        return any(isinstance(part, Mixture) and part.adds_to_loss for part in parts)

    def take_loss(self) -> torch.Tensor | None:
        """Return the terms of the last forward pass that belong to the loss, or None if there are none.

        The base model's own loss includes them. Code that computes the loss from the outputs adds them itself.
        """
        routing = routing_of(self.model)
        return None if routing is None else routing.take()

    def _prepare_model(self, peft_config: CompositeConfig, model: nn.Module) -> None:
        """Assign the parts to modules, before peft iterates over the modules."""
        self._plan = plan_parts(peft_config, model)
        self._known: dict[Hashable, Place] = {}
        for path, parts in self._plan.items():
            if any(isinstance(part, Prefix) for part in parts):
                with_prefixes(model, model.get_submodule(path.rpartition(".")[0]))
        self._connect_routers(model)

    def _connect_routers(self, model: nn.Module) -> None:
        mixtures = [part for parts in self._plan.values() for part in parts if isinstance(part, Mixture)]
        routing = routing_of(model)
        if mixtures and routing is None:
            routing = Routing()
            routing.attach(model)
        for part in mixtures:
            assert routing is not None
            part.routing = routing

    def _check_target_module_exists(self, peft_config: CompositeConfig, key: str) -> bool:
        return key in self._plan

    def _create_and_replace(
        self,
        peft_config: CompositeConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target
        if not isinstance(layer, CompositeLayer):
            layer = CompositeLayer(target)
            self._replace_module(parent, target_name, layer, target)
        try:
            layer.add_adapter(adapter_name, self._plan[current_key], self._known)
        except ValueError as error:
            raise ValueError(f"{current_key}: {error}") from error

    def _check_merge_allowed(self) -> None:
        """Raise ValueError if a part of an active adapter cannot be merged."""
        kinds = {part["kind"] for name in self.active_adapters for part in self.peft_config[name].parts}
        apart = sorted(name for name in kinds if not KINDS[name].mergeable)
        if apart:
            raise ValueError(f"parts of kind {', '.join(apart)} cannot be merged; use the adapter unmerged")

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> nn.Module:
        model = super()._unload_and_optionally_merge(*args, **kwargs)
        without_prefixes(model)
        detach_routing(model)
        return model


def plan_parts(config: CompositeConfig, model: nn.Module) -> dict[str, list[Part]]:
    """Return the parts of each module, by module path.

    Raises:
        ValueError: The targets of a part match no module, or the inputs of a parallel bottleneck do not correspond to
            its targets.
    """
    modules = _base_modules(model)
    plan: dict[str, list[Part]] = {}
    for settings in config.parts:
        template = build_part(settings)
        paths = [path for path in modules if template.matches(path)]
        if isinstance(template, Copy):
            paths = _topmost([path for path in paths if list(modules[path].parameters(recurse=False))])
        if not paths:
            raise ValueError(f"targets: {template.targets!r} of part {template.kind} matches no module")
        for path in paths:
            plan.setdefault(path, []).append(build_part(settings))
        if isinstance(template, Parallel):
            _connect(plan, template, paths, modules)
    return plan


def _connect(
    plan: dict[str, list[Part]], template: Parallel, paths: list[str], modules: dict[str, nn.Module]
) -> None:
    """Connect the parallel bottleneck that is last on each of `paths` to the input of its source module."""
    sources = [path for path in modules if matches(template.reads, path)]
    if len(sources) != len(paths):
        raise ValueError(f"reads: {template.reads!r} matches {len(sources)} modules for {len(paths)} targets")
    for source, path in zip(sources, paths, strict=True):
        part, capture = plan[path][-1], Capture(source)
        assert isinstance(part, Parallel)
        part.source, part.inputs = capture, sizes(modules[source])[0]
        plan.setdefault(source, []).append(capture)


def _base_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the base model's modules by path, in order, unwrapped if they are wrapped."""
    found: dict[str, nn.Module] = {}
    inside: str | None = None
    for path, module in model.named_modules():
        if inside is not None and path.startswith(inside):
            continue
        inside = f"{path}." if isinstance(module, BaseTunerLayer) else None
        found[path] = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    return found


def _topmost(paths: list[str]) -> list[str]:
    """Return the paths that are not below another one of them."""
    chosen = set(paths)
    return [
        path
        for path in paths
        if not any(path[:index] in chosen for index, character in enumerate(path) if character == ".")
    ]
