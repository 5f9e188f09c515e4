"""The scores of predictions against references: the same in the search and in an exported run.

This file needs only numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_LARGEST_EXPONENT = 700.0
"""exp overflows above it."""


@dataclass(frozen=True)
class TokenScores:
    """Sums over the target tokens of each example of a causal-lm split.

    Args:
        tokens: The number of target tokens, shape [n].
        loss: Their summed loss in nats, shape [n].
        correct: The number of target tokens with the highest logit, shape [n]. If all of an example's target tokens
            are correct, greedy decoding would generate them.
    """

    tokens: Array
    loss: Array
    correct: Array


def classification_scores(
    predictions: Array, references: Array | Indices, positive: int | None = None
) -> dict[str, float]:
    """Return accuracy, F1 and the Matthews correlation.

    Args:
        predictions: Logits, shape [n, classes].
        references: Class indices, shape [n].
        positive: The index of the class that F1 scores, see `f1`.
    """
    classes = predictions.shape[-1]
    confusion = np.zeros((classes, classes))  # rows are references, columns are predictions
    np.add.at(confusion, (references.astype(int), predictions.argmax(-1)), 1)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "f1": f1(confusion, positive),
        "matthews": matthews(confusion),
    }


def multi_label_scores(logits: Array, labels: NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores of predicted sets of labels; a label is predicted if its logit is above 0.

    Args:
        logits: Shape [n, labels].
        labels: Whether each label applies, shape [n, labels].
    """
    predicted = logits > 0
    right, support = (predicted & labels).sum(0), predicted.sum(0) + labels.sum(0)
    each = 2 * right / np.maximum(support, 1)
    precisions = [average_precision(column, known) for column, known in zip(logits.T, labels.T, strict=True)]
    ranked = [value for value in precisions if value is not None]
    return {
        "f1_micro": float(2 * right.sum() / max(support.sum(), 1)),
        "f1_macro": float(each[support > 0].mean()) if support.any() else 0.0,
        "mean_average_precision": float(np.mean(ranked)) if ranked else 0.0,
        "subset_accuracy": float((predicted == labels).all(1).mean()),
        "hamming_loss": float((predicted != labels).mean()),
    }


def average_precision(values: Array, labels: NDArray[np.bool_]) -> float | None:
    """Return the area under the steps of precision over recall; None if the label applies nowhere.

    Args:
        values: What examples are ranked by, shape [n]; equal values are one step.
        labels: Whether the label applies, shape [n].

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        0.8333333333333333
    """
    if not labels.any():
        return None
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    found = np.cumsum(labels[order])[ends]
    gained = np.diff(found, prepend=0) / labels.sum()
    return float((gained * found / (ends + 1)).sum())


def regression_scores(predictions: Array, references: Array | Indices) -> dict[str, float]:
    """Return Pearson and Spearman correlation and the mean squared error; both arguments have shape [n]."""
    return {
        "pearson": correlation(predictions, references),
        "spearman": correlation(mean_ranks(predictions), mean_ranks(references)),
        "mse": float(np.mean((predictions - references) ** 2)),
    }


def causal_lm_scores(scores: TokenScores) -> dict[str, float]:
    """Return perplexity and the teacher-forced scores: each token is predicted from the true tokens before it.

    They are the share of correct target tokens, and the share of examples of which every target token is correct.
    """
    mean_loss = float(scores.loss.sum() / scores.tokens.sum())
    return {
        "perplexity": math.exp(min(mean_loss, _LARGEST_EXPONENT)),
        "token_accuracy": float(scores.correct.sum() / scores.tokens.sum()),
        "teacher_forced_exact_match": float(np.mean(scores.correct == scores.tokens)),
    }


def f1(confusion: Array, positive: int | None = None) -> float:
    """Return the F1 score of one class against all others, or the mean over classes.

    Args:
        confusion: The number of examples by reference (rows) and prediction (columns).
        positive: The index of the class. Without it, the score is that of the second of two classes, or the mean over
            the occurring classes if there are more.

    Example:
        >>> confusion = np.array([[8.0, 0.0], [2.0, 0.0]])  # all examples are predicted as the first class
        >>> f1(confusion, positive=1), round(f1(confusion, positive=0), 3)
        (0.0, 0.889)
    """
    support = confusion.sum(0) + confusion.sum(1)
    each = 2 * np.diag(confusion) / np.maximum(support, 1)
    if positive is None and len(each) == 2:
        positive = 1
    return float(each[support > 0].mean() if positive is None else each[positive])


def matthews(confusion: Array) -> float:
    """Return the Matthews correlation coefficient; 0 if references or predictions are constant."""
    actual, predicted, total = confusion.sum(1), confusion.sum(0), confusion.sum()
    spread = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return 0.0 if spread == 0 else float((np.trace(confusion) * total - actual @ predicted) / np.sqrt(spread))


def correlation(a: Array | Indices, b: Array | Indices) -> float:
    """Return the Pearson correlation; 0 if one side is constant, where it is undefined."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


def mean_ranks(values: Array | Indices) -> Array:
    """Return the rank of each value from 1, the mean rank where values are equal."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks
