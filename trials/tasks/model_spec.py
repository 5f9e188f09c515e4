"""The `model` section of a sweep file, validated on load."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.errors import InvalidInputError, Problem, install_hint
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

_NOT_COMPUTING = ("disk", "meta")
"""Places of weights that are no devices."""


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

    def other(self, name: str) -> ModelSpec:
        """Return the spec of another model with the same options, or this spec if the name is its own.

        Args:
            name: Hub id or folder of the other model; or a share such as `25%`, for this one with that share of its
                layers.
        """
        if name == self.name:
            return self
        if parse_percentage(name) is not None:
            return self.model_copy(update={"layers": name})
        return self.model_copy(update={"name": name, "revision": None, "layers": None})

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
