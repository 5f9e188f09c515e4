"""The knobs of training, which every family shares.

Those of TRAINING are in every space. The rest are in a space only where its file asks for them, so that a
space which does not is the same with and without them; a configuration that lacks them is trained with
AdamW, at the task's own length:

    optimizer: [adamw, lion, adafactor]       brings lion.learning_rate_factor, adafactor.learning_rate_factor
    schedule: [linear, constant-cooldown]     brings cooldown
    sequence_length: [64, 128]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from search_spaces.errors import Problem
from search_spaces.parameters.types import Categorical, Float, Int, Parameter, Value

CONSTANT_COOLDOWN = "constant-cooldown"

TRAINING: tuple[Parameter, ...] = (
    Categorical(name="batch_size", choices=(8, 16, 32, 64), ordered=True, default=32),
    Int(name="epochs", low=1, high=5, default=3),
    # Up to 30 times the customary 0.01: small data repeated often want far more.
    Float(name="weight_decay", low=1e-4, high=0.3, log=True, default=0.01),
    Float(name="warmup", low=0.0, high=0.2, step=0.02, default=0.06),
    Categorical(name="schedule", choices=("linear", "cosine", "constant"), default="linear"),
)
"""The knobs of every space; `warmup` is a share of the optimizer steps."""

COOLDOWN = Float(
    name="cooldown", low=0.1, high=0.5, step=0.05, default=0.2, when={"schedule": (CONSTANT_COOLDOWN,)}
)
"""The share of the optimizer steps in which the constant rate falls to zero. A fifth does about as well as a
cosine over the whole run (Hägele et al., 2024, arXiv 2405.18392)."""

SEQUENCE_LENGTH = Categorical(
    name="sequence_length", choices=(64, 128, 256, 512, 1024, 2048), ordered=True, default=2048
)
"""Tokens after which a training example is cut. A file gives its own choices; the longest is the default."""


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer that a space may offer.

    Args:
        factor: multiplies the family's learning rate, whose range is AdamW's; None for AdamW.
        package: what pip installs, where the optimizer is not in torch or transformers.
        module: what that package is imported as.
    """

    factor: Float | None = None
    package: str | None = None
    module: str | None = None


def _factor(optimizer: str, low: float, high: float, default: float) -> Float:
    name = f"{optimizer}.learning_rate_factor"
    return Float(name=name, low=low, high=high, log=True, default=default, when={"optimizer": (optimizer,)})


OPTIMIZERS: dict[str, OptimizerChoice] = {
    "adamw": OptimizerChoice(),
    # The sign of the momentum is a longer step than Adam's, so its rate is 3 to 10 times smaller (Chen et
    # al., 2023, arXiv 2302.06675, section 5).
    "lion": OptimizerChoice(_factor("lion", 0.03, 0.3, 0.1), "lion-pytorch", "lion_pytorch"),
    "adafactor": OptimizerChoice(_factor("adafactor", 0.3, 10.0, 1.0)),
}
"""Every optimizer by name; the first is the one of configurations that name none."""

DEFAULT_OPTIMIZER = next(iter(OPTIMIZERS))

OPTIMIZER = Categorical(name="optimizer", choices=tuple(OPTIMIZERS), default=DEFAULT_OPTIMIZER)

ON_REQUEST: dict[str, str] = {
    OPTIMIZER.name: f"Give it choices among {', '.join(OPTIMIZERS)}.",
    SEQUENCE_LENGTH.name: "Give it choices, such as [64, 128].",
    COOLDOWN.name: f"Add {CONSTANT_COOLDOWN} to the choices of schedule.",
    **{
        o.factor.name: f"Add {name} to the choices of optimizer."
        for name, o in OPTIMIZERS.items()
        if o.factor
    },
}
"""The knobs that are in a space only where its file asks for them, and how it asks."""


def training_parameters(given: object) -> tuple[Parameter, ...]:
    """The knobs of training of a space whose file holds `given` under `parameters`, before its overrides."""
    named: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    knobs: list[Parameter] = []
    for knob in TRAINING:
        if knob.name == "schedule" and _gives_choices(named.get(knob.name)):
            assert isinstance(knob, Categorical)
            knob = replace(knob, choices=(*knob.choices, CONSTANT_COOLDOWN))
            knobs.append(knob)
            if CONSTANT_COOLDOWN in _choices(named[knob.name], knob):
                knobs.append(COOLDOWN)
        else:
            knobs.append(knob)
    if OPTIMIZER.name in named:
        asked = _choices(named[OPTIMIZER.name], OPTIMIZER)
        knobs.append(OPTIMIZER)
        knobs += [o.factor for name, o in OPTIMIZERS.items() if o.factor and name in asked]
    if SEQUENCE_LENGTH.name in named:
        knobs.append(SEQUENCE_LENGTH)
    return tuple(knobs)


def missing_libraries(parameters: Mapping[str, Parameter]) -> list[Problem]:
    """What the space's optimizers need and this Python does not have, with the command that installs it."""
    optimizer = parameters.get(OPTIMIZER.name)
    chosen = optimizer.choices if isinstance(optimizer, Categorical) else ()
    problems = []
    for name in map(str, chosen):
        choice = OPTIMIZERS[name]
        if choice.module is not None and find_spec(choice.module) is None:
            what = f"{name!r} needs the package {choice.package}, which is not installed"
            fix = f"Run: pip install {choice.package}  (the extra 'optimizers' has it), or drop {name}."
            problems.append(Problem(f"parameters.{OPTIMIZER.name}", what, fix))
    return problems


def optimizer_of(config: Mapping[str, Value]) -> str:
    """The name of the configuration's optimizer.

    Raises:
        ValueError: there is no such optimizer.
    """
    name = str(config.get(OPTIMIZER.name, DEFAULT_OPTIMIZER))
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} is none of {', '.join(OPTIMIZERS)}; use one of them")
    return name


def learning_rate_name(config: Mapping[str, Value]) -> str:
    """The parameter that is the learning rate: the family's own."""
    return f"{config['family']}.learning_rate"


def learning_rate_factor(config: Mapping[str, Value]) -> float:
    """What the configuration's optimizer multiplies the family's learning rate by."""
    factor = OPTIMIZERS[optimizer_of(config)].factor
    return 1.0 if factor is None else float(config.get(factor.name, factor.default))


def _gives_choices(entry: object) -> bool:
    return entry is not None and (not isinstance(entry, Mapping) or "choices" in entry)


def _choices(entry: object, knob: Categorical) -> Sequence[object]:
    """What a file lets the knob be; whether that is possible is checked where overrides are applied."""
    if isinstance(entry, Mapping):
        entry = entry.get("choices", list(knob.choices))
    return entry if isinstance(entry, list | tuple) else [entry]
