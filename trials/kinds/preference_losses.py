"""The losses of preference pairs, from the log-probabilities of both answers.

* dpo: Rafailov et al., 2023, arXiv 2305.18290, equation 7.
* ipo: Azar et al., 2023, arXiv 2310.12036, equation 17, on means per token, as its authors computed it.
* kto: Ethayarajh et al., 2024, arXiv 2402.01306, equation 7, with both answers of a pair as its examples and equal
  weights. The reference point of the better answers is the mean log-ratio of the batch's worse ones, and the other
  way round; it is at least 0 and has no gradient. So a loss depends on the whole batch.
* simpo: Meng et al., 2024, arXiv 2405.14734, equation 6.
* orpo: Hong et al., 2024, arXiv 2403.07691, equation 6, with the mean log-probability of the better answer's tokens.

Shapes: n pairs. All log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCORED_AT: Mapping[str, tuple[float, float]] = {
    "dpo": (0.1, 0.0),
    "ipo": (0.1, 0.0),
    "kto": (0.1, 0.0),
    "simpo": (2.0, 1.0),
    "orpo": (0.1, 0.0),
}
"""The beta and the margin of `eval_loss`, by loss: the same for every configuration, so that their losses compare.
They are the defaults of the search space."""

_MOST = -1e-6
"""The largest mean log-probability whose odds are finite in fp32."""


@dataclass(frozen=True)
class Pairs:
    """The answers of n preference pairs; every tensor has shape [n].

    Args:
        chosen: Summed log-probability of the better answer's tokens.
        rejected: That of the worse answer's tokens.
        chosen_tokens: The number of the better answer's tokens.
        rejected_tokens: That of the worse answer's tokens.
        chosen_reference: `chosen` under the frozen base model; not a number for losses without a reference.
        rejected_reference: `rejected` under the frozen base model.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    chosen_reference: torch.Tensor
    rejected_reference: torch.Tensor

    @property
    def ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The log-ratios of the model to the base model, of the better and the worse answers."""
        return self.chosen - self.chosen_reference, self.rejected - self.rejected_reference

    @property
    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean log-probabilities per token, of the better and the worse answers."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens


Loss = Callable[["Pairs", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""(pairs, beta of each, margin of each) -> the loss of each."""


def dpo(pairs: Pairs, beta: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of the preferences under the implicit rewards."""
    from torch.nn.functional import logsigmoid

    better, worse = pairs.ratios
    return -logsigmoid(beta * (better - worse))


def ipo(pairs: Pairs, beta: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of the difference of mean log-ratios from 1 / (2 beta)."""
    better, worse = pairs.ratios
    difference = better / pairs.chosen_tokens - worse / pairs.rejected_tokens
    return (difference - 1 / (2 * beta)) ** 2


def kto(pairs: Pairs, beta: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of both answers relative to reference points from the batch."""
    better, worse = pairs.ratios
    of_better, of_worse = (ratios.detach().mean().clamp(min=0) for ratios in (worse, better))
    losses = (beta * (of_better - better)).sigmoid() + (beta * (worse - of_worse)).sigmoid()
    return losses / 2


def simpo(pairs: Pairs, beta: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of a preference by a margin in mean log-probability times beta."""
    from torch.nn.functional import logsigmoid

    better, worse = pairs.means
    return -logsigmoid(beta * (better - worse) - margin)


def orpo(pairs: Pairs, beta: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of the better answer's tokens plus beta times that of the log odds ratio."""
    from torch.nn.functional import logsigmoid

    better, worse = pairs.means
    return -better - beta * logsigmoid(_log_odds(better) - _log_odds(worse))


def _log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    import torch

    log_probability = log_probability.clamp(max=_MOST)
    return log_probability - torch.log(-torch.expm1(log_probability))


LOSSES: Mapping[str, Loss] = {"dpo": dpo, "ipo": ipo, "kto": kto, "simpo": simpo, "orpo": orpo}
"""Every loss by the name that a sweep file gives."""
WITH_REFERENCE = ("dpo", "ipo", "kto")
"""The losses that compare the model with the frozen base model."""
COUPLED = ("kto",)
"""The losses of a pair that depend on the other pairs of its batch."""
