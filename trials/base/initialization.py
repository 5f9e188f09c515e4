"""Initial values of adapters that follow from training data or from the weights before quantization.

* EVA (Paischer et al., 2024, arXiv 2410.07170): the directions in which a matrix's inputs vary most.
* CorDA (Yang et al., 2024, arXiv 2406.05223): the largest components of W C, where C is the covariance of the inputs.
* LoRA-GA (Wang et al., 2024, arXiv 2407.05000): the singular vectors of the gradient of W.
* LoftQ (Li et al., 2023, arXiv 2310.08659), in one iteration: the largest components of the error of quantization.

peft computes these in passes over a data loader until the result converges, or on a GPU only. Here the number of
batches is fixed, so that the FLOPs are known before, and every device does. CorDA and LoRA-GA subtract the initial
B A from the weight, so `save_adapter` writes the difference to it, which loads on the unchanged base model.

This file needs only torch, safetensors and peft, and an exported run carries a copy of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel


class Pass(NamedTuple):
    """A batch of training data that an initialization reads.

    Args:
        inputs: The arguments of the model's forward pass, on the model's device.
        loss: Computes the training loss of the batch with a model.
        labels: The labels of the batch; for a language model those of each token.
    """

    inputs: Mapping[str, torch.Tensor]
    loss: Callable[[nn.Module], torch.Tensor]
    labels: torch.Tensor | None = None


REPLACES_WEIGHTS = ("corda", "lora_ga")
"""Methods that subtract the initial B A from the weight."""
_DAMPING = 0.01
"""The share of the mean variance that is added to each variance, as in peft's CorDA."""
_STABLE_GAMMA = 16
"""LoRA-GA's γ: both factors have the scale ⁴√outputs / √γ (section 3.3 of its paper)."""


def no_passes(number: int) -> Sequence[Pass]:
    """Return no training batches, for models whose initial values need none.

    Raises:
        ValueError: The adapter needs some.
    """
    if number:
        raise ValueError(f"the adapter's initial values need {number} batches of training data")
    return ()


def initialize(
    model: PeftModel,
    method: str,
    passes: Sequence[Pass],
    original: Callable[[str], torch.Tensor] | None = None,
) -> None:
    """Set the initial A and B of every LoRA layer of a model, before the first training step.

    Equal passes give equal values. Where a matrix has fewer directions than the rank, the other rows of A stay
    random, and the other columns of B zero.

    Args:
        model: The adapted model, in evaluation mode.
        method: `eva`, `corda`, `lora_ga` or `loftq`; other methods change nothing.
        passes: The training batches that are read; none for LoftQ.
        original: Returns the weight of a module of the base model before quantization, by its path, for LoftQ.
    """
    if method not in _FACTORS:
        return
    layers = _lora_layers(model)
    statistics = _statistics(model, layers, method, passes)
    for path, layer in layers.items():
        with torch.no_grad(), torch.autocast(statistics.device_type, enabled=False):
            weight = _weight(layer)
            given = statistics.of.get(path)
            if method == "loftq":
                assert original is not None, "LoftQ needs the weights before quantization"
                given = _as_matrix(layer, original(path)).to(weight)
            _set_factors(layer, method, *_FACTORS[method](weight, given, _rank(layer), _scaling(layer)))


def initial_factors(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return copies of the A and B of a model before training, by their names in the saved adapter."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: t.detach().clone() for name, t in state.items() if ".lora_A." in name or ".lora_B." in name}


def save_adapter(
    model: PeftModel, folder: str | Path, initial: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Save an adapter so that it loads on the unchanged base model.

    If training began with B₀ A₀ subtracted from the weights, the saved update is B A - B₀ A₀, a LoRA of twice the
    rank and the same multiplier: the rows of A are those of A and A₀, the columns of B those of B and -B₀.

    Args:
        model: The trained model.
        folder: Where the adapter is saved.
        initial: The result of `initial_factors` before training, if the method is one of `REPLACES_WEIGHTS`.
    """
    from peft import PeftConfig
    from safetensors.torch import load_file, save_file

    folder = Path(folder)
    model.save_pretrained(str(folder))
    if initial is None:
        return
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for name, start in initial.items():
        start = start.to(tensors[name])
        tensors[name] = (
            torch.cat([tensors[name], start]) if ".lora_A." in name else torch.cat([tensors[name], -start], 1)
        )
    save_file(tensors, file, metadata={"format": "pt"})
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.r *= 2
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.rank_pattern = {pattern: 2 * rank for pattern, rank in config.rank_pattern.items()}
    config.save_pretrained(str(folder))


class _Statistics:
    """What a pass over the batches finds, by the path of each matrix."""

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type
        self.of: dict[str, Any] = {}


class _Moments:
    """The second moments of a matrix's inputs.

    Args:
        inputs: The number of inputs of the matrix.
        device: The device of the inputs.
    """

    def __init__(self, inputs: int, device: torch.device) -> None:
        self.count = torch.zeros((), device=device)
        self.total = torch.zeros(inputs, device=device)
        self.products = torch.zeros(inputs, inputs, device=device)

    def add(self, x: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Add inputs of shape [rows, tokens, inputs]; those of padding count as zero."""
        weights = torch.ones(x.shape[:-1], device=x.device)
        if mask is not None and mask.shape == weights.shape:
            weights = mask.to(weights)
        rows = (x * weights.unsqueeze(-1)).reshape(-1, x.shape[-1])
        self.count += weights.sum()
        self.total += rows.sum(0)
        self.products += rows.t() @ rows

    def covariance(self) -> torch.Tensor:
        """Return the covariance matrix, shape [inputs, inputs]."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)

    def damped(self) -> torch.Tensor:
        """Return the uncentered moments, shape [inputs, inputs], with a larger diagonal, to be invertible."""
        moments = self.products / self.count
        return moments + _DAMPING * moments.diagonal().mean() * torch.eye(len(moments), device=moments.device)


def _statistics(
    model: PeftModel,
    layers: Mapping[str, Any],
    method: str,
    passes: Sequence[Pass],
) -> _Statistics:
    """Run the base model on the batches, without the adapter, and return what the method reads of each matrix."""
    found = _Statistics(next(model.parameters()).device.type)
    if method == "loftq":
        return found
    current: dict[str, torch.Tensor] = {}
    note = _note_gradient if method == "lora_ga" else _note_input
    handles = [
        layer.get_base_layer().register_forward_hook(note(found, path, current))
        for path, layer in layers.items()
    ]
    for layer in layers.values():
        layer.enable_adapters(False)
    try:
        for inputs, loss, _ in passes:
            current.clear()
            current.update(inputs)
            with torch.set_grad_enabled(method == "lora_ga"):
                value = loss(model)
            if method == "lora_ga":
                value.backward()
                model.zero_grad()
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            layer.enable_adapters(True)
    missing = [path for path in layers if path not in found.of]
    if missing:
        raise ValueError(
            f"no batch reached {', '.join(missing[:3])}, so that {method} cannot initialize its adapter"
        )
    return found


def _note_input(found: _Statistics, path: str, current: Mapping[str, torch.Tensor]) -> Callable[..., None]:
    """Return a hook that adds a matrix's inputs to its moments."""

    @torch.no_grad()
    def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        x = arguments[0]
        if not _has_tokens(x, current):
            return
        with torch.autocast(found.device_type, enabled=False):
            if path not in found.of:
                found.of[path] = _Moments(x.shape[-1], x.device)
            found.of[path].add(x.float(), current.get("attention_mask"))

    return hook


def _note_gradient(
    found: _Statistics, path: str, current: Mapping[str, torch.Tensor]
) -> Callable[..., torch.Tensor | None]:
    """Return a hook that adds up the gradient of a frozen matrix, shape [outputs, inputs]."""

    def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor | None:
        x = arguments[0].detach()
        if not _has_tokens(x, current):
            return None
        is_lowest = not y.requires_grad
        if is_lowest:
            y.requires_grad_(True)

        def add(gradient: torch.Tensor) -> None:
            with torch.autocast(found.device_type, enabled=False):
                rows = gradient.reshape(-1, gradient.shape[-1]).float()
                product = rows.t() @ x.reshape(-1, x.shape[-1]).float()
            found.of[path] = found.of[path] + product if path in found.of else product

        y.register_hook(add)
        # A copy, because some architectures change what a matrix returns in place.
        return y.clone() if is_lowest else None

    return hook


def _has_tokens(x: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a matrix reads the tokens of the batch, and not relative positions, which all rows share."""
    return x.ndim == 2 or len(next(iter(inputs.values()))) in x.shape[:-1]


def _eva(
    weight: torch.Tensor, moments: _Moments, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    _, vectors = torch.linalg.eigh(moments.covariance())
    a = vectors.flip(1)[:, :rank].t()
    return a, torch.zeros(len(weight), len(a), device=a.device)


def _corda(
    weight: torch.Tensor, moments: _Moments, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    covariance = moments.damped()
    u, s, vh = torch.linalg.svd(weight @ covariance, full_matrices=False)
    root = (s[:rank] / scaling).sqrt()
    v = torch.linalg.solve(covariance, vh[:rank].t())
    return (v * root).t(), u[:, :rank] * root


def _lora_ga(
    weight: torch.Tensor, gradient: torch.Tensor, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    rank = min(rank, len(vh) // 2)
    scale = len(weight) ** 0.25 / math.sqrt(_STABLE_GAMMA)
    return scale * vh[:rank], scale * u[:, rank : 2 * rank]


def _loftq(
    weight: torch.Tensor, original: torch.Tensor, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    u, s, vh = torch.linalg.svd(original - weight, full_matrices=False)
    root = (s[:rank] / scaling).sqrt()
    return root.unsqueeze(1) * vh[:rank], u[:, :rank] * root


_FACTORS: Mapping[str, Callable[[torch.Tensor, Any, int, float], tuple[torch.Tensor, torch.Tensor]]] = {
    "eva": _eva,
    "corda": _corda,
    "lora_ga": _lora_ga,
    "loftq": _loftq,
}
"""A and B of each method, from the weight, what was found or given, the rank and the multiplier of B A."""


def _set_factors(layer: Any, method: str, a: torch.Tensor, b: torch.Tensor) -> None:
    """Set the first rows of A and columns of B, and subtract their product from the weight if the method does."""
    name = layer.active_adapters[0]
    own_a, own_b = layer.lora_A[name].weight, layer.lora_B[name].weight
    own_a[: len(a)] = a.to(own_a)
    own_b[:, : len(a)] = b.to(own_b)
    if method in REPLACES_WEIGHTS:
        base = layer.get_base_layer()
        product = _as_matrix(layer, _scaling(layer) * (b @ a))
        base.weight = nn.Parameter((base.weight.float() - product).to(base.weight.dtype), requires_grad=False)


def _lora_layers(model: PeftModel) -> dict[str, Any]:
    """Return the LoRA layers of a model by their paths in the base model."""
    from peft.tuners.lora import LoraLayer

    return {
        path: module
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer)
    }


def _weight(layer: Any) -> torch.Tensor:
    """Return the weight of a layer in fp32, shape [outputs, inputs]."""
    from peft.utils.integrations import dequantize_bnb_weight

    base = layer.get_base_layer()
    weight = base.weight
    if type(weight).__name__ in ("Params4bit", "Int8Params"):
        # peft's function for modules replaces the module's weight, and bitsandbytes then forgets its scales.
        weight = dequantize_bnb_weight(weight, getattr(base, "state", None))
    return _as_matrix(layer, weight.detach().float())


def _as_matrix(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in the shape [outputs, inputs], or a matrix in the shape of the weight."""
    return weight.t() if getattr(layer, "fan_in_fan_out", False) else weight


def _rank(layer: Any) -> int:
    return int(layer.r[layer.active_adapters[0]])


def _scaling(layer: Any) -> float:
    return float(layer.scaling[layer.active_adapters[0]])
