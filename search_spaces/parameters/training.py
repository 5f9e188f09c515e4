"""The parameters of training, which all families share.

Those of `TRAINING` are in every space. The others are in a space only if its file requests them; configurations
without them train with AdamW and at the task's sequence length:

    optimizer: [adamw, lion, adafactor]       brings lion.learning_rate_factor, adafactor.learning_rate_factor
    schedule: [linear, constant-cooldown]     brings cooldown
    sequence_length: [64, 128]
    train_samples: {low: 200, high: 8000}     a number of examples, or shares such as 5%; see `amounts.py`
    epochs: {low: 0.25, high: 4, log: true}   real numbers, where the file gives a fraction

Sweeps on preference pairs add the parameters of their loss (`preference.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from search_spaces.errors import Problem
from search_spaces.parameters.amounts import REAL_EPOCHS, TRAIN_SAMPLES, has_real_epochs
from search_spaces.parameters.preference import ON_PREFERENCES, loss_parameters
from search_spaces.parameters.types import Categorical, Float, Int, Parameter, Value

CONSTANT_COOLDOWN = "constant-cooldown"

TRAINING: tuple[Parameter, ...] = (
    Categorical(name="batch_size", choices=(8, 16, 32, 64), ordered=True, default=32),
    Int(name="epochs", low=1, high=5, default=3),
    # Up to 30 times the common 0.01: several epochs on small data need more regularization.
    Float(name="weight_decay", low=1e-4, high=0.3, log=True, default=0.01),
    Float(name="warmup", low=0.0, high=0.2, step=0.02, default=0.06),
    Categorical(name="schedule", choices=("linear", "cosine", "constant"), default="linear"),
)
"""The training parameters of every space; `warmup` is a share of the optimizer steps."""

COOLDOWN = Float(
    name="cooldown", low=0.1, high=0.5, step=0.05, default=0.2, when={"schedule": (CONSTANT_COOLDOWN,)}
)
"""The share of the optimizer steps, at the end, in which the constant learning rate decreases to zero. A fifth is
about as good as a cosine schedule over the whole run (Hägele et al., 2024, arXiv 2405.18392)."""

SEQUENCE_LENGTH = Categorical(
    name="sequence_length", choices=(64, 128, 256, 512, 1024, 2048), ordered=True, default=2048
)
"""Maximum number of tokens of a training example. A space file gives its own choices; the largest is the default."""


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer that a space can offer.

    Args:
        factor: parameter that multiplies the family's learning rate, whose range is for AdamW; None for AdamW.
        package: name of the package on PyPI; None if the optimizer is in torch or transformers.
        module: name of the module that the package provides.
    """

    factor: Float | None = None
    package: str | None = None
    module: str | None = None


def _factor(optimizer: str, low: float, high: float, default: float) -> Float:
    name = f"{optimizer}.learning_rate_factor"
    return Float(name=name, low=low, high=high, log=True, default=default, when={"optimizer": (optimizer,)})


OPTIMIZERS: dict[str, OptimizerChoice] = {
    "adamw": OptimizerChoice(),
    # The sign of the momentum has a larger norm than Adam's step, so the learning rate is 3 to 10 times smaller
    # (Chen et al., 2023, arXiv 2302.06675, section 5).
    "lion": OptimizerChoice(_factor("lion", 0.03, 0.3, 0.1), "lion-pytorch", "lion_pytorch"),
    "adafactor": OptimizerChoice(_factor("adafactor", 0.3, 10.0, 1.0)),
}
"""All optimizers by name; the first is that of configurations without an optimizer."""

DEFAULT_OPTIMIZER = next(iter(OPTIMIZERS))

OPTIMIZER = Categorical(name="optimizer", choices=tuple(OPTIMIZERS), default=DEFAULT_OPTIMIZER)

ON_REQUEST: dict[str, str] = {
    OPTIMIZER.name: f"Give it choices among {', '.join(OPTIMIZERS)}.",
    SEQUENCE_LENGTH.name: "Give it choices, such as [64, 128].",
    TRAIN_SAMPLES.name: "Give it a range, such as {low: 200, high: 8000} or {low: 5%, high: 100%}.",
    COOLDOWN.name: f"Add {CONSTANT_COOLDOWN} to the choices of schedule.",
    **ON_PREFERENCES,
    **{
        o.factor.name: f"Add {name} to the choices of optimizer."
        for name, o in OPTIMIZERS.items()
        if o.factor
    },
}
"""The parameters that are in a space only if its file requests them, with the edit that requests them."""


def training_parameters(entries: object, loss: str | None = None) -> tuple[Parameter, ...]:
    """Return the training parameters of a space, before the overrides of its file.

    Args:
        entries: the entry `parameters` of the space file, by parameter name.
        loss: the loss of the sweep's task, if it is on preference pairs.
    """
    named: Mapping[str, object] = entries if isinstance(entries, Mapping) else {}
    parameters: list[Parameter] = []
    for parameter in TRAINING:
        if parameter.name == "schedule" and _gives_choices(named.get(parameter.name)):
            assert isinstance(parameter, Categorical)
            parameter = replace(parameter, choices=(*parameter.choices, CONSTANT_COOLDOWN))
            parameters.append(parameter)
            if CONSTANT_COOLDOWN in _choices(named[parameter.name], parameter):
                parameters.append(COOLDOWN)
        elif parameter.name == REAL_EPOCHS.name and has_real_epochs(named.get(parameter.name)):
            parameters.append(REAL_EPOCHS)
        else:
            parameters.append(parameter)
    if OPTIMIZER.name in named:
        offered = _choices(named[OPTIMIZER.name], OPTIMIZER)
        parameters.append(OPTIMIZER)
        parameters += [o.factor for name, o in OPTIMIZERS.items() if o.factor and name in offered]
    if SEQUENCE_LENGTH.name in named:
        parameters.append(SEQUENCE_LENGTH)
    if TRAIN_SAMPLES.name in named:
        parameters.append(TRAIN_SAMPLES)
    return (*parameters, *loss_parameters(named, loss))


def missing_libraries(parameters: Mapping[str, Parameter]) -> list[Problem]:
    """Return a problem for each optimizer of a space whose package is not installed, with the install command."""
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
    """Return the name of the configuration's optimizer.

    Raises:
        ValueError: The optimizer is unknown.
    """
    name = str(config.get(OPTIMIZER.name, DEFAULT_OPTIMIZER))
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: unknown optimizer {name!r}; use one of {', '.join(OPTIMIZERS)}")
    return name


def learning_rate_name(config: Mapping[str, Value]) -> str:
    """Return the name of the parameter that is the learning rate, which belongs to the family."""
    return f"{config['family']}.learning_rate"


def learning_rate_factor(config: Mapping[str, Value]) -> float:
    """Return the factor of the configuration's optimizer on the family's learning rate."""
    factor = OPTIMIZERS[optimizer_of(config)].factor
    return 1.0 if factor is None else float(config.get(factor.name, factor.default))


def _gives_choices(entry: object) -> bool:
    return entry is not None and (not isinstance(entry, Mapping) or "choices" in entry)


def _choices(entry: object, parameter: Categorical) -> Sequence[object]:
    """Return the choices that a file's entry gives; overrides are validated where they are applied."""
    if isinstance(entry, Mapping):
        entry = entry.get("choices", list(parameter.choices))
    return entry if isinstance(entry, list | tuple) else [entry]
