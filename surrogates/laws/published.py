"""Published laws of the best learning rate and batch size, each with its source and the domain that was measured.

`advise` evaluates every law that covers a target and says why the others do not. A law is used only inside the domain
that its authors measured; a bound is rounded in print, so a target within 10 % of it counts as inside.

How the coefficients were verified:

* `step-law`: on the authors' published grid of 1,911 runs. The grid point nearest to the law is 0.096 % above the
  best loss of its cell on average over 17 cells (`tests/unit/surrogates/laws/test_published.py`). The domain is that
  grid.
* `deepseek`: formulas as two implementations give them; at the compute of DeepSeek LLM 7B they return the learning
  rate and the batch that the paper trained it with, 4.2e-4 and 2,304 sequences of 4,096 tokens, within 5 %.
* `porian`: formulas as the comparison in the Step Law paper gives them, which agree with the authors' form,
  0.0047 · (N / 1.08e8)^-0.36 and 160 · (N / 1.08e8)^0.703 sequences of 2,048 tokens, within 3 %. The range of the
  fit, 25 to 110 million parameters at a constant learning rate, is that of the authors' code.
* `kaplan`: formula and range as in appendix D.6 and section 2 of the paper, against one implementation.
* `lora-llama`, `lora-qwen3`: formula as the documentation of Tinker gives it, on the authors' later sweep of learning
  rates: mean excess loss 0.4 %, at most 1.6 %, over 7 models (same test). The widths are those of that sweep, and
  the ranks those of the article.

Laws whose constant, units or domain could not be verified are left out, such as those of Bjorck et al. 2024 (arXiv
2409.19913) and the batch over the final loss of MiniCPM (Hu et al. 2024, arXiv 2404.06395).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces.errors import InvalidInputError, Problem, did_you_mean

QUANTITIES = {
    "params": "parameters without embeddings",
    "params_with_head": "parameters without embeddings, with the output layer",
    "tokens": "training tokens",
    "flops": "training FLOPs without embeddings; by default 6 · params · tokens",
    "hidden": "width of the residual stream",
    "rank": "rank of the LoRA adapter",
}
"""The quantities that laws depend on or are bounded in, with their meanings."""
MODEL_FAMILIES = ("llama", "qwen3")
"""Families of base models that laws of fine-tuning tell apart."""
PURPOSES = ("pretraining", "lora")
_ROUNDING = 1.1
_LORA_SOURCE = "Schulman et al. 2025, LoRA Without Regret, thinkingmachines.ai/blog/lora"


@dataclass(frozen=True, kw_only=True)
class Range:
    """The measured range of one quantity.

    Args:
        low: the smallest value; None for no lower bound.
        high: the largest value; None for no upper bound.
    """

    low: float | None = None
    high: float | None = None

    def excess(self, value: float) -> float:
        """Return by which factor a value lies outside, as its logarithm; 0 inside or within the rounding."""
        below = math.log(self.low / value) if self.low is not None else 0.0
        above = math.log(value / self.high) if self.high is not None else 0.0
        outside = max(below, above, 0.0)
        return outside if outside > math.log(_ROUNDING) else 0.0

    def describe_excess(self, value: float) -> str:
        """Return on which side a value outside lies, such as `above 1e+11`."""
        if self.high is not None and value > self.high:
            return f"above {self.high:.3g}"
        return f"below {self.low:.3g}"

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"up to {self.high:.3g}" if self.low is None else f"from {self.low:.3g}"
        return f"{self.low:.3g}" if self.low == self.high else f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class PowerLaw:
    """The value factor · prod quantity^exponent."""

    factor: float
    exponents: Mapping[str, float]

    @property
    def needs(self) -> tuple[str, ...]:
        """The quantities that the value depends on."""
        return tuple(self.exponents)

    def __call__(self, at: Mapping[str, float]) -> float:
        """Return the value at the quantities."""
        return self.factor * math.prod(at[name] ** power for name, power in self.exponents.items())

    def __str__(self) -> str:
        return " · ".join([f"{self.factor:.4g}", *(f"{n}^{p:g}" for n, p in self.exponents.items())])


@dataclass(frozen=True)
class LogLine:
    """The value intercept + slope · ln(quantity)."""

    intercept: float
    slope: float
    quantity: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The quantities that the value depends on."""
        return (self.quantity,)

    def __call__(self, at: Mapping[str, float]) -> float:
        """Return the value at the quantity."""
        return self.intercept + self.slope * math.log(at[self.quantity])

    def __str__(self) -> str:
        return f"{self.intercept:g} - {-self.slope:g} · ln({self.quantity})"


Formula = PowerLaw | LogLine


@dataclass(frozen=True, kw_only=True)
class PublishedLaw:
    """A published law of the best learning rate, of the best batch size, or of both.

    Args:
        name: its name on the command line.
        purpose: one of `PURPOSES`.
        learning_rate: the peak learning rate of AdamW; None if the law has none.
        batch: the batch in tokens; None if the law has none.
        domain: the range of each quantity that was measured.
        model_family: the family of base models that was measured, one of `MODEL_FAMILIES`; None for any.
        setting: architecture, schedule and batch of the measurements.
        source: authors, year, arXiv number or address, and place of the formula.
    """

    name: str
    purpose: str
    learning_rate: Formula | None = None
    batch: Formula | None = None
    domain: Mapping[str, Range]
    model_family: str | None = None
    setting: str
    source: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The quantities that a target must give, without repetition."""
        formulas = [formula for formula in (self.learning_rate, self.batch) if formula is not None]
        return tuple(dict.fromkeys(name for formula in formulas for name in formula.needs))

    def describe_domain(self) -> str:
        """Return the domain in words, such as `params 2.15e+08 to 1.07e+09`."""
        return ", ".join(f"{name} {measured}" for name, measured in self.domain.items())


LAWS = (
    PublishedLaw(
        name="step-law",
        purpose="pretraining",
        learning_rate=PowerLaw(1.79, {"params": -0.713, "tokens": 0.307}),
        batch=PowerLaw(0.58, {"tokens": 0.571}),
        domain={"params": Range(low=214_663_680, high=1_073_741_824), "tokens": Range(low=4e9, high=1e11)},
        setting="dense decoder, AdamW, decay to a fixed final rate of 1e-5, sequences of 2,048 tokens",
        source="Li et al. 2025, arXiv 2503.04715, eq. 1 and the published grid of dense models",
    ),
    PublishedLaw(
        name="deepseek",
        purpose="pretraining",
        learning_rate=PowerLaw(0.3118, {"flops": -0.125}),
        batch=PowerLaw(0.2920, {"flops": 0.3271}),
        domain={"flops": Range(low=1e17, high=1e20)},
        setting="dense decoder, AdamW, warmup and two steps down; grids at 1e17 to 2e19 FLOPs, checked at 1e20",
        source="DeepSeek-AI 2024, arXiv 2401.02954, eq. 1",
    ),
    PublishedLaw(
        name="porian",
        purpose="pretraining",
        learning_rate=PowerLaw(3.7, {"params_with_head": -0.36}),
        batch=PowerLaw(0.7576, {"params_with_head": 0.703}),
        domain={
            "params_with_head": Range(low=2.5e7, high=1.1e8),
            "tokens_per_param": Range(low=20, high=20),
        },
        setting="dense decoder, AdamW with tuned beta2, warmup and a constant rate, 20 tokens per parameter",
        source="Porian et al. 2024, arXiv 2406.19146, the fit of tuned hyperparameters",
    ),
    PublishedLaw(
        name="kaplan",
        purpose="pretraining",
        learning_rate=LogLine(0.003239, -0.0001395, "params"),
        domain={"params": Range(low=768, high=1.5e9), "tokens": Range(high=2.5e5 * 2**19)},
        setting="dense decoder, Adam, warmup of 3,000 steps and cosine to 0, batches of 524,288 tokens",
        source="Kaplan et al. 2020, arXiv 2001.08361, eq. D.1",
    ),
    PublishedLaw(
        name="lora-llama",
        purpose="lora",
        learning_rate=PowerLaw(5e-5 * 10 * 2000**0.781, {"hidden": -0.781}),
        domain={"hidden": Range(low=2048, high=8192), "rank": Range(low=1, high=512)},
        model_family="llama",
        setting="Llama 3 on Tulu 3, all linear layers, alpha 32 and scale alpha/rank, constant rate, one epoch",
        source=f"{_LORA_SOURCE}: 5e-5 · 10 · (2000/hidden)^0.781",
    ),
    PublishedLaw(
        name="lora-qwen3",
        purpose="lora",
        learning_rate=PowerLaw(5e-5 * 10 * 2000**0.0775, {"hidden": -0.0775}),
        domain={"hidden": Range(low=2048, high=5120), "rank": Range(low=1, high=512)},
        model_family="qwen3",
        setting="Qwen3 on Tulu 3, all linear layers, alpha 32 and scale alpha/rank, constant rate, one epoch",
        source=f"{_LORA_SOURCE}: 5e-5 · 10 · (2000/hidden)^0.0775",
    ),
)
"""Every published law, in the order of the output."""


@dataclass(frozen=True)
class Suggestion:
    """What one law that covers the target recommends.

    Args:
        law: the law.
        learning_rate: the peak learning rate, or None.
        batch_tokens: the batch in tokens, or None.
    """

    law: PublishedLaw
    learning_rate: float | None
    batch_tokens: float | None


@dataclass(frozen=True)
class Refusal:
    """Why a law is not used at the target.

    Args:
        law: the law.
        reasons: one sentence per missing quantity and per quantity outside the domain.
        distance: how far outside the target lies, the largest log factor; infinite where a quantity is missing.
    """

    law: PublishedLaw
    reasons: tuple[str, ...]
    distance: float


@dataclass(frozen=True)
class Advice:
    """The recommendations of all laws at one target.

    Args:
        at: the target, with derived quantities.
        suggestions: what the laws that cover it recommend, at least one.
        refusals: the other laws of the purpose.
        notes: sentences on derived quantities.
    """

    at: Mapping[str, float]
    suggestions: tuple[Suggestion, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def learning_rates(self) -> tuple[float, float] | None:
        """The smallest and the largest learning rate over the laws, or None if no law has one."""
        return _ends([each.learning_rate for each in self.suggestions])

    @property
    def batches(self) -> tuple[float, float] | None:
        """The smallest and the largest batch in tokens over the laws, or None if no law has one."""
        return _ends([each.batch_tokens for each in self.suggestions])


def advise(at: Mapping[str, float], purpose: str = "pretraining", model_family: str | None = None) -> Advice:
    """Return what the published laws recommend at a target, and why laws are not used.

    Args:
        at: positive values by name of `QUANTITIES`.
        purpose: one of `PURPOSES`.
        model_family: the family of the base model, one of `MODEL_FAMILIES`.

    Raises:
        InvalidInputError: no law covers the target; the message names the nearest domain.

    Example:
        >>> advice = advise({"params": 1e9, "tokens": 2e10})
        >>> [each.law.name for each in advice.suggestions]
        ['step-law', 'kaplan']
        >>> f"{advice.suggestions[0].learning_rate:.3g}"
        '0.000996'
    """
    _check(at, purpose, model_family)
    full, notes = _complete(at)
    suggestions, refusals = [], []
    for law in LAWS:
        if law.purpose != purpose:
            continue
        refusal = _refusal(law, full, model_family)
        if refusal is None:
            rate, batch = (None if f is None else f(full) for f in (law.learning_rate, law.batch))
            suggestions.append(Suggestion(law, rate, batch))
        else:
            refusals.append(refusal)
    if not suggestions:
        raise _uncovered(refusals, at)
    return Advice(full, tuple(suggestions), tuple(refusals), notes)


def _check(at: Mapping[str, float], purpose: str, model_family: str | None) -> None:
    """Raise InvalidInputError for an unknown quantity, purpose or family, or a value that is not positive."""
    problems = [
        Problem(
            name, f"{value!r} is not a known quantity with a positive value", did_you_mean(name, QUANTITIES)
        )
        for name, value in at.items()
        if name not in QUANTITIES or not 0 < value < math.inf
    ]
    if purpose not in PURPOSES:
        problems.append(
            Problem("purpose", f"{purpose!r} is not a purpose of a law", did_you_mean(purpose, PURPOSES))
        )
    if model_family not in (None, *MODEL_FAMILIES):
        what, fix = f"no law is known for {model_family!r}", did_you_mean(str(model_family), MODEL_FAMILIES)
        problems.append(Problem("model_family", what, fix))
    if problems:
        raise InvalidInputError(problems)


def _complete(at: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the target with the quantities that follow from others, and a note on each approximation."""
    full, notes = dict(at), []
    size = full.get("params_with_head", full.get("params"))
    if "flops" not in full and {"params", "tokens"} <= full.keys():
        full["flops"] = 6.0 * full["params"] * full["tokens"]
        notes.append(f"flops = 6 · params · tokens = {full['flops']:.3g}, without those of attention scores")
    if size is not None and "tokens" in full:
        full["tokens_per_param"] = full["tokens"] / size
    return full, tuple(notes)


def _refusal(law: PublishedLaw, at: Mapping[str, float], model_family: str | None) -> Refusal | None:
    reasons, distance = [], 0.0
    if law.model_family not in (None, model_family):
        reasons.append(f"it was measured on {law.model_family} models: add family={law.model_family}")
        distance = math.inf
    for name in dict.fromkeys([*law.needs, *law.domain]):
        # The rank is a bound without a coefficient: a target may leave it out.
        if name not in at and name != "rank":
            reasons.append(_missing(name))
            distance = math.inf
        elif name in at and name in law.domain and (excess := law.domain[name].excess(at[name])):
            reasons.append(f"{name} = {at[name]:.3g} is {law.domain[name].describe_excess(at[name])}")
            distance = max(distance, excess)
    return Refusal(law, tuple(reasons), distance) if reasons else None


def _missing(name: str) -> str:
    given = ("tokens", "training tokens") if name == "tokens_per_param" else (name, QUANTITIES.get(name, ""))
    return f"it needs {given[0]} ({given[1]})"


def _uncovered(refusals: list[Refusal], at: Mapping[str, float]) -> InvalidInputError:
    """Return the error for a target that no law covers, which names the law with the nearest domain."""

    # Among laws that miss a quantity, one that uses a given quantity is nearest, with the fewest reasons.
    def order(each: Refusal) -> tuple[float, bool, int]:
        return each.distance, not set(each.law.needs) & at.keys(), len(each.reasons)

    nearest = min(refusals, key=order)
    what = f"no published law covers this target; the nearest is {nearest.law.name}: " + "; ".join(
        nearest.reasons
    )
    fix = (
        f"Its domain is {nearest.law.describe_domain()}. Give a target inside it, or measure runs of your own and "
        "fit them: autotune law fit grid.csv --law step."
    )
    return InvalidInputError(Problem("--at", what, fix))


def _ends(values: list[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None
