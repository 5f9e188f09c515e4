"""The `model` section of a sweep file, validated on load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.errors import InvalidInputError, Problem, install_hint
from search_spaces.parameters.types import Value
from search_spaces.percentages import parse_percentage

POCKET = "builtin:pocket"
"""The name of the embedded base model (`trials.tasks.pocket`)."""

Precision = Literal["auto", "fp32", "bf16", "int8"]
Weights = Literal["fp32", "bf16", "int8", "nf4"]
Placement = Literal["auto", "balanced", "sequential"]
AUTO: Final = "auto"
"""The precision or the device that is chosen when a sweep starts."""
QUANTIZING = ("cuda", "cpu", "xpu")
"""Devices that can multiply quantized weights."""

CHOSEN: Final = "model"
"""The parameter of a configuration that chooses the base model."""
_FIX_CHOICES = (
    "List at least two models by rising cost, such as [small, base], or shares of the layers: [50%, 100%]."
)

_NOT_COMPUTING = ("disk", "meta")
"""Places of weights that are no devices."""


def model_labels(names: Sequence[str]) -> list[str]:
    """Return short names of models: as few of the last parts of each path or hub id as tell them apart.

    Example:
        >>> model_labels(["models/small", "models/base"])
        ['small', 'base']
    """
    most = max((len(PurePath(name).parts) for name in names), default=1)
    for count in range(1, most):
        short = ["/".join(PurePath(name).parts[-count:]) for name in names]
        if len(set(short)) == len(short):
            return short
    return list(names)


def read_choices(data: Mapping[str, Any]) -> dict[str, Any]:
    """Check the choices of a `model` section, and derive the sweep's own model from the last one.

    Returns:
        The section with `name`, and with `layers` if the last choice is a share of the layers below 100 %.

    Raises:
        InvalidInputError: The choices do not fit.
    """
    choices, name = data["choices"], data.get("name")
    if not isinstance(choices, list | tuple) or len(choices) < 2:
        raise InvalidInputError(Problem("model.choices", f"{choices!r} is no choice", _FIX_CHOICES))
    problems = []
    for place, choice in enumerate(choices):
        where = f"model.choices[{place}]"
        if not isinstance(choice, str) or not choice:
            problems.append(Problem(where, f"{choice!r} is no model", _FIX_CHOICES))
        elif choice in choices[:place]:
            problems.append(Problem(where, f"{choice!r} is there already", "Name each model once."))
        elif (share := parse_percentage(choice)) is not None and not 0 < share <= 1:
            problems.append(Problem(where, f"{choice!r} is no share of the layers", "Write one such as 25%."))
    if problems:
        raise InvalidInputError(problems)
    last, layers = choices[-1], data.get("layers")
    if (share := parse_percentage(last)) is None:
        if name is not None and name != last:
            what = f"{name!r} is not the last choice, {last!r}, which is the sweep's own model"
            raise InvalidInputError(Problem("model.name", what, "Remove it, or list it last."))
        name, own = last, None
    else:
        own = None if share == 1 else last
        if name is None:
            fix = "Write name: with the model whose layers the shares are."
            raise InvalidInputError(Problem("model.name", "missing beside shares of layers", fix))
        if name in choices:
            what = f"{name!r} is the whole model, and {last} of it is after it"
            raise InvalidInputError(Problem("model.choices", what, "Write 100% instead, and list it last."))
    if layers not in (None, own):
        fix = "Remove it: the choices say which layers stay."
        raise InvalidInputError(Problem("model.layers", f"{layers!r} is given beside choices", fix))
    return {**data, "name": name, "layers": own}


def resolve_model(name: str) -> str:
    """Return the folder of the embedded model for its name, and any other name unchanged."""
    if name != POCKET:
        return name
    from trials.tasks.pocket import base_folder

    return str(base_folder())


class ModelSpec(BaseModel):
    """The base model, which stays frozen.

    Args:
        name: Hub id, local folder, or `builtin:pocket` for the model that comes with the package.
        revision: Branch, tag or commit of the hub repository.
        layers: Share of its layers that the model keeps, such as `50%`: the lowest ones, with the embeddings, the
            final normalization and the head. By default all of them.
        choices: Base models among which the search chooses, by rising cost: hub ids, folders, or shares of the layers
            of `name` such as `25%`. The last one is the sweep's own, on which configurations are described; without
            `name` it is that model.
        trust_remote_code: Whether to run code that comes with the model; only for models you trust.
        precision: Data type of the forward and backward pass. `auto` is the fastest one that learns the same as fp32,
            measured when a sweep starts. `int8` multiplies with the frozen matrices in 8 bits, on CPUs; it is faster
            and not exact. Adapters and the optimizer's state stay in fp32.
        attn_implementation: Implementation of attention in transformers: `sdpa` (PyTorch's fused kernels), `eager`
            (separate products), `flash_attention_2`, `flash_attention_3`, `flex_attention` or another one that is
            registered there, or `auto`, which is the default of the architecture. `attention` is its earlier name.
        gradient_checkpointing: Whether each layer keeps its input alone for the backward pass and runs again there,
            which takes less memory and more time.
        weights: Data type in which the base model is stored. `bf16` halves its memory and computes in bf16; `int8`
            and `nf4` quantize the matrices of its layers to 8 and 4 bits (bitsandbytes).
        device: `auto` (CUDA, then Apple's GPU, then the CPU) or a PyTorch device.
        device_map: For a model that does not fit on one device, where its parts are: `auto` or `balanced` (spread
            over all GPUs), `sequential` (one GPU after another), or a device by module path, as in transformers. Its
            devices run one after the other, and trials train one at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    revision: str | None = None
    layers: str | None = None
    choices: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    precision: Precision = AUTO
    attn_implementation: str = Field(
        default=AUTO,
        pattern=r"^[A-Za-z0-9_|.-]+$",
        validation_alias=AliasChoices("attn_implementation", "attention"),
    )
    gradient_checkpointing: bool = Field(default=False, strict=True)
    weights: Weights = "fp32"
    device: str = AUTO
    device_map: Placement | dict[str, int | str] | None = None

    @property
    def quantized(self) -> bool:
        """Whether the weights are quantized."""
        return self.weights in ("int8", "nf4")

    @property
    def share_of_layers(self) -> float | None:
        """The share of the lowest layers that the model keeps; None if it keeps all of them."""
        return None if self.layers is None else parse_percentage(self.layers)

    @property
    def title(self) -> str:
        """The name of the model, with the share of the layers that it keeps."""
        return self.name if self.layers is None else f"{self.name} ({self.layers} of its layers)"

    def other(self, name: str) -> ModelSpec:
        """Return the spec of another model with the same options, or this spec if the name is its own.

        Args:
            name: Hub id or folder of the other model; or a share such as `25%`, for this one with that share of its
                layers.
        """
        if name == self.name:
            return self
        if parse_percentage(name) is not None:
            return self.model_copy(update={"layers": name, "choices": None})
        return self.model_copy(update={"name": name, "revision": None, "layers": None, "choices": None})

    @property
    def smaller(self) -> tuple[str, ...]:
        """The choices below the last one, which is this model; empty without choices."""
        return (self.choices or ())[:-1]

    def choice_of(self, config: Mapping[str, Value]) -> str | None:
        """Return the name of the base model that a configuration chooses; None for this one.

        Raises:
            InvalidInputError: The configuration is not one of a sweep with these choices.
        """
        label = config.get(CHOSEN)
        if label is None:
            return None
        names = dict(zip(model_labels(self.choices or ()), self.choices or (), strict=True))
        if label not in names:
            what = f"{label!r} is not one of the choices ({', '.join(names) or 'none'})"
            raise InvalidInputError(Problem("model.choices", what, "Restore the model section of the sweep."))
        return None if names[str(label)] == (self.choices or ())[-1] else names[str(label)]

    def chosen_by(self, config: Mapping[str, Value]) -> ModelSpec:
        """Return the spec of the base model that a configuration chooses, without choices."""
        name = self.choice_of(config)
        return self.model_copy(update={"choices": None}) if name is None else self.other(name)

    @model_validator(mode="before")
    @classmethod
    def _read_choices(cls, data: object) -> object:
        return read_choices(data) if isinstance(data, Mapping) and data.get("choices") is not None else data

    @field_validator("layers", mode="before")
    @classmethod
    def _check_layers(cls, layers: object) -> object:
        """Refuse what is not the share of the layers of a model."""
        if layers is None:
            return None
        share = parse_percentage(layers) if isinstance(layers, str) else None
        if share is None or not 0 < share <= 1:
            fix = "Write a share of its layers, such as 50%."
            raise InvalidInputError(Problem("model.layers", f"{layers!r} does not fit", fix))
        return layers

    @model_validator(mode="after")
    def _check_placement(self) -> ModelSpec:
        if self.device_map is None:
            return self
        if self.device != AUTO:
            what = f"{self.device!r} is given beside device_map, which places the model"
            raise InvalidInputError(Problem("model.device", what, "Remove device, or device_map."))
        if isinstance(self.device_map, dict):
            if not self.device_map:
                what = "places no module"
                raise InvalidInputError(Problem("model.device_map", what, 'Write {"": 0}, or auto.'))
            if away := sorted({d for d in self.device_map.values() if d in _NOT_COMPUTING}, key=str):
                what = (
                    f"{', '.join(map(str, away))} cannot compute, and trials need every weight in each step"
                )
                raise InvalidInputError(Problem("model.device_map", what, "Use devices, or weights: nf4."))
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> ModelSpec:
        if self.precision == "int8" and self.weights != "fp32":
            what = f"precision int8 needs weights in fp32, not in {self.weights}"
            raise InvalidInputError(
                Problem("model.precision", what, "Remove model.weights or model.precision.")
            )
        if self.precision == "int8" and self.device.partition(":")[0] not in (AUTO, "cpu"):
            what = f"int8 is supported on CPUs only, and the device is {self.device!r}"
            raise InvalidInputError(Problem("model.precision", what, "Write bf16, or device: cpu."))
        if self.weights == "bf16" and self.precision == "fp32":
            what = "weights in bf16 cannot be multiplied in fp32"
            raise InvalidInputError(Problem("model.precision", what, "Write bf16, or remove it."))
        if self.quantized and find_spec("bitsandbytes") is None:
            what = f"{self.weights} needs the package bitsandbytes, which is not installed"
            fix = f"Run: {install_hint('quantized')}, or write bf16."
            raise InvalidInputError(Problem("model.weights", what, fix))
        if self.quantized and self.device.partition(":")[0] not in (AUTO, *QUANTIZING):
            what = f"{self.device!r} cannot multiply {self.weights}"
            fix = f"Use one of {', '.join(QUANTIZING)}, or write bf16."
            raise InvalidInputError(Problem("model.weights", what, fix))
        return self
