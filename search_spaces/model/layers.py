"""Reading of the lists of layers: their matrices, their normalizations, and what else they multiply with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search_spaces.model.call_order import Calls
from search_spaces.model.frozen_parts import STATE_SPACE, frozen_parts
from search_spaces.model.layer_matrices import (
    adaptable_matrices,
    expert_matrices,
    has_attention,
    is_lookup,
    is_shared,
    is_state_space,
    is_tied,
    mixer_of,
    mixers_of,
    own_parameters,
    tied_parameters,
)
from search_spaces.model.module_names import (
    DECODER_PLACES,
    PLACES,
    POSITION_MATRICES,
    is_expert,
    is_in_attention,
    role_of,
)
from search_spaces.model.parts import FrozenPart, Matrix, Norm, Place

if TYPE_CHECKING:
    from torch import nn

KNOWN = (
    *(
        "albert",
        "bamba",
        "bart",
        "bert",
        "bloom",
        "deberta",
        "deberta-v2",
        "deepseek_v3",
        "distilbert",
        "electra",
        "falcon",
        "falcon_h1",
    ),
    *(
        "gemma",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "gpt_oss",
        "gptj",
        "granitemoehybrid",
        "jamba",
        "lfm2",
        "llama",
        "mamba",
        "mamba2",
        "mbart",
        "mistral",
        "mixtral",
    ),
    *(
        "modernbert",
        "mpnet",
        "mpt",
        "mt5",
        "nemotron_h",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "roberta",
        "t5",
    ),
    *("xlm-roberta", "xlnet"),
)
"""Types of models whose FLOPs in closed form equal those that torch counts."""


def known_types() -> str:
    """Return the end of a message on a model in which nothing can be adapted."""
    return f"known types: {', '.join(KNOWN)}"


@dataclass
class Layers:
    """What the layers of one stack hold.

    Args:
        matrices: matrices of the layers.
        norms: normalizations of all layers.
        frozen: weights that no adapter reaches.
        parallel: whether the feed-forward network reads the layer's input, as far as the normalizations show.
        plain_linear: whether the matrices are torch's own linear modules.
        experts: matrices of routed experts.
        has_experts: whether a layer has experts.
        without_attention: indices of the layers in which tokens do not attend to each other.
    """

    matrices: tuple[Matrix, ...] = ()
    norms: list[Norm] = field(default_factory=list)
    frozen: list[FrozenPart] = field(default_factory=list)
    parallel: bool = False
    plain_linear: bool = True
    experts: tuple[Matrix, ...] = ()
    has_experts: bool = False
    without_attention: list[int] = field(default_factory=list)


def find_stacks(network: Any, config: Any, calls: Calls) -> list[tuple[str, list[nn.Module]]]:
    """Return the module path and the layers of each stack: one, or those of encoder and decoder.

    Args:
        network: the network.
        config: the configuration of the part that reads text.
        calls: the first calls of the network's modules, where they are known.

    Raises:
        ValueError: There is no list of layers with matrices.
    """
    if getattr(config, "do_layer_norm_before", True) is False:
        raise ValueError(
            "model: do_layer_norm_before is off; the positions of its normalizations are not supported"
        )
    depths = _depths(config)
    for is_candidate in (_has_named_matrices, _has_matrices):
        stacks = _stacks_of(network, depths, calls, is_candidate)
        if len(stacks) == len(depths):
            return stacks
    raise ValueError(
        f"model: no list of {depths[len(stacks)]} layers with matrices to adapt in {type(network).__name__}; its "
        f"modules are {summary(n for n, m in network.named_modules() if own_parameters(m))}; {known_types()}"
    )


def _stacks_of(
    network: nn.Module, depths: list[int], calls: Calls, is_candidate: Callable[[nn.Module], bool]
) -> list[tuple[str, list[nn.Module]]]:
    """Return the first list of layers of each depth; in a single stack, among those that a pass of text calls."""
    from torch import nn

    lists = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and any(map(is_candidate, module))
    ]
    called = [(name, module) for name, module in lists if f"{name}.0" in calls.order]
    stacks: list[tuple[str, list[nn.Module]]] = []
    for name, module in called if called and len(depths) == 1 else lists:
        inside = any(name.startswith(f"{path}.") for path, _ in stacks)
        group = name.endswith("albert_layer_groups")  # which holds the list of the layers
        if len(stacks) < len(depths) and len(module) == depths[len(stacks)] and not inside and not group:
            stacks.append((name, list(module)))
    return stacks


def _depths(config: Any) -> list[int]:
    depth = int(getattr(config, "num_hidden_layers", 0) or 0)
    if getattr(config, "num_hidden_groups", None) is not None:  # ALBERT's layers share their weights
        if config.num_hidden_groups != 1:
            raise ValueError(
                f"model: {config.num_hidden_groups} groups of layers that share weights are not supported; 1 is"
            )
        return [int(config.inner_group_num)]
    if not getattr(config, "is_encoder_decoder", False):
        return [depth]
    above = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    return [depth, int(above or depth)]


def _has_matrices(layer: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(module, nn.Linear) for module in layer.modules())


def _has_named_matrices(layer: nn.Module) -> bool:
    return any(
        role_of(name)[0] and len(own_parameters(module).get("weight", ())) == 2
        for name, module in layer.named_modules()
    )


def read_layers(
    stack: int,
    path: str,
    layers: list[nn.Module],
    first: int,
    config: Any,
    calls: Calls,
) -> Layers:
    """Read the layers of a stack.

    Args:
        stack: 1 for the decoder of an encoder-decoder, else 0.
        path: module path of the list of layers.
        layers: its layers.
        first: index of the lowest one.
        config: the model's configuration.
        calls: the first calls of the network's modules, where they are known.

    Raises:
        ValueError: No layer has a matrix that an adapter can be put on.
    """
    from torch import nn

    found = Layers()
    mixers = [mixers_of(layer) for layer in layers]
    tied = tied_parameters(layers)
    its_calls = [calls.inside(f"{path}.{index}") for index in range(len(layers))]
    by_layer = [
        adaptable_matrices(layer, stack, config, its_mixers, tied, own_calls)
        for layer, its_mixers, own_calls in zip(layers, mixers, its_calls, strict=True)
    ]
    found.matrices = _with_layers(by_layer, first)
    found.experts = _with_layers([expert_matrices(layer, stack, config) for layer in layers], first)
    if not found.matrices:
        raise ValueError(
            f"model: the layers in {path} have no matrix that an adapter can be put on; its modules are "
            f"{summary(n for layer in layers for n, m in layer.named_modules() if own_parameters(m))}; "
            f"{known_types()}"
        )
    found.plain_linear = all(
        type(layer.get_submodule(matrix.name)) is nn.Linear
        for layer, its_matrices in zip(layers, by_layer, strict=True)
        for matrix in its_matrices
    )
    if any(mixers) and config.model_type not in STATE_SPACE:
        found.without_attention = [
            first + i for i, its_matrices in enumerate(by_layer) if not has_attention(its_matrices, mixers[i])
        ]
    is_encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    for index, layer in enumerate(layers):
        inside = f"{path}.{index}."
        here = tuple(by_layer[index])
        its_order = its_calls[index].order
        norms, frozen = _beside(layer, first + index, here, config, mixers[index], tied, its_order)
        places = _Places(stack, here, frozen, its_order, is_encoder_decoder)
        placed = [
            Norm(first + index, inside + name, place, sizes["weight"][0], "bias" in sizes)
            for name, sizes in norms.items()
            if mixer_of(name, mixers[index]) is None and (place := places.of(name)) is not None
        ]
        if places.has_two_blocks and _is_shared({norm.place for norm in placed}):
            found.parallel = True
            placed = [replace(norm, place="input") if norm.place == "attention" else norm for norm in placed]
        found.norms.extend(placed)
        found.frozen.extend(part for parts in frozen.values() for part in parts)
        found.has_experts = found.has_experts or any(map(is_expert, frozen))
    return found


def _with_layers(by_layer: list[list[Matrix]], first: int) -> tuple[Matrix, ...]:
    """Return the distinct matrices of all layers, with the indices of their layers where not every layer has them."""
    found: dict[Matrix, list[int]] = {}
    for index, matrices in enumerate(by_layer):
        for matrix in matrices:
            found.setdefault(matrix, []).append(first + index)
    depth = len(by_layer)
    return tuple(m if len(at) == depth else replace(m, layers=tuple(at)) for m, at in found.items())


def _beside(
    layer: nn.Module,
    index: int,
    matrices: tuple[Matrix, ...],
    config: Any,
    mixers: Mapping[str, nn.Module],
    tied: set[int],
    calls: Mapping[str, int],
) -> tuple[dict[str, dict[str, tuple[int, ...]]], dict[str, list[FrozenPart]]]:
    """Return the normalizations and the frozen parts of a layer, by name below it."""
    known = {*(matrix.name for matrix in matrices), *POSITION_MATRICES}
    norms: dict[str, dict[str, tuple[int, ...]]] = {}
    frozen: dict[str, list[FrozenPart]] = {}
    for name, module in layer.named_modules():
        sizes = own_parameters(module)
        if name in known or not sizes or is_lookup(module):
            continue
        if _is_norm(name, module, sizes):
            norms[name] = sizes
            continue
        first = _precedes_mixer(name, mixers, calls) or is_tied(module, tied)
        if is_shared(name) and calls and name not in calls:
            continue  # an adapter of the shared block for another layer (Zamba2)
        mixer = mixer_of(name, mixers)
        parts = frozen_parts(index, name, sizes, config, mixer if is_state_space(mixer) else None)
        if parts:
            frozen[name] = [replace(part, place="attention") for part in parts] if first else parts
    return norms, frozen


def _precedes_mixer(name: str, mixers: Mapping[str, nn.Module], calls: Mapping[str, int]) -> bool:
    """Return whether a module computes the input of the layer's mixer, as the shared block of Zamba does."""
    starts = [calls[path] for path, mixer in mixers.items() if path in calls and is_state_space(mixer)]
    return is_shared(name) or any(calls.get(name, start) < start for start in starts)


def _is_shared(places: set[Place]) -> bool:
    """Return whether one normalization precedes both blocks of a layer, which are parallel then (GPT-J, Phi)."""
    return "attention" in places and not {"feed-forward", "output"} & places


def _is_norm(name: str, module: nn.Module, sizes: Mapping[str, tuple[int, ...]]) -> bool:
    if set(sizes) - {"weight", "bias"} or len(sizes.get("weight", ())) != 1:
        return False
    return "norm" in type(module).__name__.lower() or name in PLACES


class _Places:
    """What reads the output of each normalization of a layer: known by name, or from the order of the calls."""

    def __init__(
        self,
        stack: int,
        matrices: tuple[Matrix, ...],
        frozen: Mapping[str, list[FrozenPart]],
        calls: Mapping[str, int],
        is_encoder_decoder: bool,
    ) -> None:
        self._known = DECODER_PLACES if stack else PLACES
        self._calls, self._is_encoder_decoder = calls, is_encoder_decoder
        readers = {place: [m.name for m in matrices if m.site in sites] for place, sites in _READERS.items()}
        for name, parts in frozen.items():
            if parts[0].place in readers:
                readers[parts[0].place].append(name)
        self._starts: dict[Place, int] = {
            place: min(calls[name] for name in names if name in calls)
            for place, names in readers.items()
            if any(name in calls for name in names)
        }

    @property
    def has_two_blocks(self) -> bool:
        """Whether the layer has attention and a feed-forward network, as far as its calls are known."""
        return not self._starts or {"attention", "feed-forward"} <= self._starts.keys()

    def of(self, name: str) -> Place | None:
        """Return the place of a normalization, or None for one that is left frozen.

        Encoder-decoders use the same names for normalizations before a block (mBART) and after it (BART).
        """
        by_order = self._is_encoder_decoder and name.endswith("_layer_norm") and "." not in name
        by_order = by_order or (name == "norm" and name in self._calls)  # of whichever block the layer has
        if name in self._known and not by_order:
            return self._known[name]
        if is_in_attention(name) and "." in name:
            return _NORMALIZED.get(name.rpartition(".")[2])
        if name not in self._calls:
            return None
        return next((place for place, start in self._starts.items() if self._calls[name] < start), "output")


_READERS: dict[Place, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "qkv", "kv", "mixer"),
    "cross-attention": ("cross-q", "cross-k", "cross-v"),
    "feed-forward": ("up", "gate", "gate_up"),
}
"""The sites of the matrices that read the input of each block, in the order of the blocks."""

_NORMALIZED: dict[str, Place] = {"q_norm": "q", "q_layernorm": "q", "k_norm": "k", "k_layernorm": "k"}
"""The last part of the names of normalizations of queries and keys."""


def summary(names: Iterable[str]) -> str:
    """Join the distinct names, with every number replaced by '*', in order."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)) or "none"
