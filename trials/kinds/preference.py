"""Preference optimization on pairs of a better and a worse answer to one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..reading.encoding import IGNORED, Encoded, Encoding, count_targets, padded, padded_labels
from ..reading.forms import read_pair
from .causal_lm import aligned, encode_form, reads_as_chat, token_losses
from .kind import REFERENCE, Array, Batch, Columns, Metric, Scoring, TaskKind, Values
from .preference_losses import COUPLED, LOSSES, SCORED_AT, WITH_REFERENCE, Pairs

if TYPE_CHECKING:
    import torch

_ROWS = "rows"
_TIE = 1e-4
"""Rewards that differ by less, in nats, are equal: two passes over the same tokens differ by rounding."""


class Preference(TaskKind):
    """The better of two answers.

    An example has two rows, the prompt with the better answer and with the worse one. Columns: the log-probability
    of the better answer, of the worse one, the tokens of each, and both log-probabilities under the frozen base
    model, which are not numbers for losses without a reference.

    The reward of an answer is its log-ratio to the base model; for losses without a reference it is the mean
    log-probability of its tokens. Neither is multiplied by beta, so that rewards of different betas compare.
    """

    name = "preference"
    auto_model = "AutoModelForCausalLM"
    shape_task = "causal-lm"
    metrics: ClassVar = {
        "reward_accuracy": Metric("maximize", 1.0, worst=0.0),
        "reward_margin": Metric("maximize", None),
        "likelihood_accuracy": Metric("maximize", 1.0, worst=0.0),
    }
    default_metric = "reward_accuracy"
    scores_whole_texts = True
    base_has_head = True
    rows_per_example = 2
    model_computes_loss = False

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the tokens of the prompt with each answer; the loss covers the answers.

        Each row is cut at the task's maximum length: it keeps its beginning, as TRL's trainers keep it.
        """
        forms = read_pair(row, task, as_chat=reads_as_chat(task, tokenizer))
        found = [encode_form(form, task, tokenizer) for form in forms]
        rows = [each.example for each in found]
        longest = max(len(each["input_ids"]) for each in rows)
        return Encoding(
            {_ROWS: rows, "length": len(rows) * longest},
            max(each.full_length for each in found),
            sum(each.full_targets for each in found),
            tuple(dict.fromkeys(remark for each in found for remark in each.remarks)),
        )

    def rows(self, example: Encoded) -> Sequence[Encoded]:
        """Return the row of the better answer and that of the worse one."""
        found: Sequence[Encoded] = example[_ROWS]
        return found

    def row_inputs(self, rows: Sequence[Encoded], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Return rows, padded to the longest."""
        return padded(rows, tokenizer)

    def target_count(self, example: Encoded) -> int:
        """Return 1 for a pair, and 0 if an answer has no token within the maximum length, or both are equal."""
        return int(_has_tokens(example) and not _is_tie(example))

    def drop_reason(self, example: Encoded, limit: int) -> str:
        """Return that both answers are equal, which teaches and tests nothing, or that one has no token."""
        if _has_tokens(example) and _is_tie(example):
            return f"both answers are equal within {limit} tokens"
        return super().drop_reason(example, limit)

    def learned_tokens(self, example: Encoded) -> int:
        """Return the number of tokens of both answers."""
        return sum(count_targets(row["labels"]) for row in example[_ROWS])

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch with both rows of each example, and the log-probabilities under the base model if known."""
        import torch

        rows = [row for example in examples for row in example[_ROWS]]
        inputs = padded(rows, tokenizer)
        targets = {"labels": padded_labels(rows, inputs["input_ids"].shape[1])}
        if all(REFERENCE in example for example in examples):
            targets[REFERENCE] = torch.tensor([example[REFERENCE] for example in examples])
        return Batch(inputs, targets)

    def needs_reference(self, task: Mapping[str, Any]) -> bool:
        """Return whether the task's loss compares the model with the frozen base model."""
        return task["loss"] in WITH_REFERENCE

    def reference(self, columns: Columns) -> list[list[float]]:
        """Return the log-probabilities of both answers."""
        return np.stack(columns[:2], axis=1).tolist()

    def loss_values(self, task: Mapping[str, Any]) -> Values:
        """Return the name of the task's loss."""
        return {"loss": task["loss"]}

    def packs(self, task: Mapping[str, Any]) -> bool:
        """Return whether the loss of a pair is independent of the other pairs of its batch."""
        return task["loss"] not in COUPLED

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the loss of each pair, with the beta and the margin of its configuration."""
        import torch

        assert configs, "the loss of a pair depends on the configuration"
        pairs = Pairs(*self.columns(output, targets))
        name = str(configs[0]["loss"])
        usual = dict(zip(("beta", "margin"), SCORED_AT[name], strict=True))
        beta, margin = (
            torch.tensor([float(config.get(key, value)) for config in configs], device=pairs.chosen.device)
            for key, value in usual.items()
        )
        return LOSSES[name](pairs, beta, margin)

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return both log-probabilities, both numbers of tokens, and both log-probabilities under the base model."""
        logits, labels = aligned(output.logits, targets["labels"])
        found = -token_losses(logits, labels).sum(1).view(-1, self.rows_per_example)
        tokens = (labels != IGNORED).sum(1).view(-1, self.rows_per_example)
        reference = targets.get(REFERENCE, found.new_full(found.shape, float("nan")))
        return *found.unbind(1), *tokens.unbind(1), *reference.unbind(1)

    def finish(self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring) -> Columns:
        """Return the columns, and those of the loss and of the rewards of both answers."""
        import torch

        pairs, name = Pairs(*map(torch.from_numpy, columns)), scoring.task["loss"]
        beta, margin = (torch.tensor(value, dtype=torch.double) for value in SCORED_AT[name])
        rewards = pairs.ratios if name in WITH_REFERENCE else pairs.means
        found = (LOSSES[name](pairs, beta, margin), *rewards)
        return *columns, *(each.numpy() for each in found)

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss at one beta for every configuration, and how far the rewards agree with the pairs.

        `reward_accuracy` is the share of pairs whose better answer has the higher reward, and `likelihood_accuracy`
        that of those whose better answer has the higher mean log-probability; pairs with equal values count half.
        """
        *_, losses, _, _ = columns
        if not np.isfinite(losses).all():
            return {"eval_loss": float("nan")}
        return {name: float(each.mean()) for name, each in self.example_scores(columns).items()}

    def answers(
        self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring
    ) -> tuple[list[Any], list[Any]] | None:
        """Return the rewards of both answers, the better one first, and the name of the field with the better one."""
        *_, better, worse = self.finish(columns, examples, scoring)
        return list(zip(better.tolist(), worse.tolist(), strict=True)), ["chosen"] * len(better)

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return the loss of each pair, and every score, which is a mean over pairs."""
        chosen, rejected, chosen_tokens, rejected_tokens, _, _, losses, better, worse = columns
        return {
            "eval_loss": losses,
            "reward_accuracy": _wins(better - worse),
            "reward_margin": better - worse,
            "likelihood_accuracy": _wins(chosen / chosen_tokens - rejected / rejected_tokens),
        }


def _has_tokens(example: Encoded) -> bool:
    return all(count_targets(row["labels"]) for row in example[_ROWS])


def _is_tie(example: Encoded) -> bool:
    better, worse = example[_ROWS]
    return bool(better["input_ids"] == worse["input_ids"])


def _wins(differences: Array) -> Array:
    """Return 1 where a difference is positive, 0 where it is negative, and a half where it is rounding."""
    return np.where(np.abs(differences) < _TIE, 0.5, (differences > 0).astype(float))
