"""Classification of the words of a text, such as named entities: one tag per word.

Words are joined by spaces, and the first token of a word carries its tag; the loss covers no other token. Words after
`max_length` are not predicted: they count as outside of every entity, so that an entity that reaches them is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..reading.encoding import IGNORED, Encoded, Encoding, padded, padded_labels
from ..reading.tables.errors import DataError, RowError
from .kind import Array, Batch, Columns, Metric, Scoring, TaskKind, Values
from .scoring.tags import TagScheme, entity_counts, entity_scores

if TYPE_CHECKING:
    import torch

_WITHOUT_TOKENS = "rows have words that the tokenizer removes; they count as outside of every entity"


class TokenClassification(TaskKind):
    """One tag per word. Columns: (tags within max_length, their summed loss, the predicted tag of each token)."""

    name = "token-classification"
    auto_model = "AutoModelForTokenClassification"
    shape_task = name
    metrics: ClassVar = {
        "entity_f1": Metric("maximize", 1.0, worst=0.0),
        "entity_precision": Metric("maximize", 1.0, worst=0.0),
        "entity_recall": Metric("maximize", 1.0, worst=0.0),
        "token_accuracy": Metric("maximize", 1.0, worst=0.0),
    }
    default_metric = "entity_f1"
    constant_name = "most frequent tag"
    label_form = "words"
    scores_whole_texts = True

    def model_options(self, outputs: int) -> dict[str, Any]:
        """Return the number of tags."""
        return {"num_labels": outputs}

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the tokens of the words, with the index of a word's tag at its first token.

        Beside the model's inputs and the labels, an example has `tags`, those of all its words, and `words`, the
        index of the word of each label.
        """
        assert classes is not None, "a classification has classes"
        words, positions = row[task["text"][0]], {tag: index for index, tag in enumerate(classes)}
        tags = [positions[tag] for tag in row[task["label"]]]
        if not tokenizer.is_fast:
            raise DataError(
                f"the tokenizer {type(tokenizer).__name__} does not say to which word a token belongs",
                "Choose a model with a fast tokenizer (tokenizer.json).",
            )
        if len(words) != len(tags):
            raise RowError(f"there are {len(words)} words and {len(tags)} tags", "Give each word one tag.")
        text, spans = _joined(words)
        limit = task["max_length"]
        encoded = dict(tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True))
        firsts = _first_tokens(encoded.pop("offset_mapping"), spans)
        labels = [IGNORED] * len(encoded["input_ids"])
        for word, token in firsts.items():
            labels[token] = tags[word]
        length = len(labels)
        if length >= limit:
            length = len(tokenizer(text, verbose=False)["input_ids"])
        is_whole = len(firsts) == len(words) or length > limit
        encoded |= {"labels": labels, "tags": tags, "words": list(firsts)}
        return Encoding(encoded, length, len(words), () if is_whole else (_WITHOUT_TOKENS,))

    def target_count(self, example: Encoded) -> int:
        """Return the number of words with a token within the maximum length."""
        return len(example["words"])

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch whose labels are padded like its tokens, on the right."""
        inputs = padded(examples, tokenizer, side="right")
        return Batch(inputs, {"labels": padded_labels(examples, inputs["input_ids"].shape[1])})

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the cross entropy in nats, summed over the words."""
        from torch.nn import functional

        logits, labels = output.logits.float().transpose(1, 2), targets["labels"]
        return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").sum(1)

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return (tags within max_length, their summed loss, the predicted tag of each token, else IGNORED)."""
        is_target = targets["labels"] != IGNORED
        # What is not finite has no highest value; the loss then says so.
        predicted = output.logits.float().argmax(-1).masked_fill(~is_target, IGNORED)
        return is_target.sum(1), self.losses(output, targets), predicted

    def finish(self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring) -> Columns:
        """Return, per example, the words within max_length and their summed loss; all words and the right tags among
        them; and all entities, the predicted ones and the right ones.
        """
        within, loss, predicted = columns
        scheme = TagScheme(scoring.names or ())
        rows = []
        for example, tokens in zip(examples, predicted, strict=True):
            tags = np.full(len(example["tags"]), scheme.outside)
            tags[example["words"]] = tokens[tokens != IGNORED]
            right = int((tags == np.array(example["tags"])).sum())
            guessed, known = scheme.entities(tags.tolist()), scheme.entities(example["tags"])
            rows.append((len(tags), right, *entity_counts(guessed, known)))
        return within, loss, *np.array(rows, float).reshape(-1, 5).T

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss over words in nats, the share of right tags, and the scores of entities."""
        within, loss, words, right, known, predicted, matched = (float(column.sum()) for column in columns)
        if not np.isfinite(loss):
            return {"eval_loss": float("nan")}
        return {
            "eval_loss": loss / within,
            "token_accuracy": right / words,
            **entity_scores(known, predicted, matched),
        }

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return each example's part of the ratios whose denominator is the same for every run."""
        within, loss, words, right, known, _, matched = columns
        found = {"eval_loss": loss / within.mean(), "token_accuracy": right / words.mean()}
        return found | ({"entity_recall": matched / known.mean()} if known.any() else {})

    def answers(
        self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring
    ) -> tuple[list[Any], list[Any]] | None:
        """Return the names of the predicted and of the true tags, one list per example; see `finish`."""
        names = scoring.names or ()
        outside, found = TagScheme(names).outside, []
        for example, tokens in zip(examples, columns[2], strict=True):
            tags = np.full(len(example["tags"]), outside)
            tags[example["words"]] = tokens[tokens != IGNORED]
            found.append([names[int(tag)] for tag in tags])
        return found, [[names[tag] for tag in example["tags"]] for example in examples]

    def constant_columns(
        self, train: Sequence[Encoded], examples: Sequence[Encoded], outputs: int
    ) -> Columns | None:
        """Return the columns of predicting the share of each tag in train for every word."""
        counts = np.bincount([tag for example in train for tag in _learned(example)], minlength=outputs)
        with np.errstate(divide="ignore"):
            losses = -np.log(counts / counts.sum())
        width = max(len(example["labels"]) for example in examples)
        predicted = np.full((len(examples), width), float(IGNORED))
        for row, example in zip(predicted, examples, strict=True):
            row[: len(example["words"])] = counts.argmax()
        within = np.array([len(example["words"]) for example in examples], float)
        return within, np.array([losses[_learned(example)].sum() for example in examples]), predicted


def _learned(example: Encoded) -> list[int]:
    return [example["tags"][word] for word in example["words"]]


def _joined(words: Sequence[Any]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of words with a space between them, and the characters of each word."""
    texts, spans, end = [str(word) for word in words], [], 0
    for text in texts:
        spans.append((end, end + len(text)))
        end += len(text) + 1
    return " ".join(texts), spans


def _first_tokens(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the first token of each word that has one of its own."""
    firsts: dict[int, int] = {}
    word = 0
    for token, (begin, end) in enumerate(offsets):
        while word < len(spans) and spans[word][1] <= begin:
            word += 1
        if word < len(spans) and begin < end and end > spans[word][0]:
            firsts.setdefault(word, token)
    return firsts
