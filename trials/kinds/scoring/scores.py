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

_BINS = 15
"""The bins of the calibration error."""
_HOTTEST = 20.0
"""The largest temperature that is fitted, and the inverse of the smallest."""
_BISECTIONS = 24
"""They determine the logarithm of a temperature to 4e-7."""
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
    """Return the scores of predicted classes, of the ranking by probability, and of the probabilities themselves.

    Args:
        predictions: Logits, shape [n, classes].
        references: Class indices, shape [n].
        positive: The index of the class that F1, precision, recall, average precision and the area under the ROC
            curve score. Without it, they score the second of two classes, and the mean over the occurring ones if
            there are more.
    """
    confusion, chances = confusion_of(predictions, references), probabilities(predictions)
    support = confusion.sum(0) + confusion.sum(1)
    scored = np.flatnonzero(support) if positive is None and len(support) != 2 else [_positive(positive)]
    precision, recall = precision_and_recall(confusion)
    ranked = [(chances[:, c], references == c) for c in scored]
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "f1": f1(confusion, positive),
        "precision": float(precision[scored].mean()),
        "recall": float(recall[scored].mean()),
        "matthews": matthews(confusion),
        "average_precision": float(np.mean([average_precision(*each) or 0.0 for each in ranked])),
        "roc_auc": float(np.mean([roc_auc(*each) for each in ranked])),
        "brier": float(brier_terms(chances, references).mean()),
        "ece": calibration_error(chances, references),
        "ece_calibrated": calibrated_error(predictions, references),
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


def probabilities(logits: Array) -> Array:
    """Return the softmax of logits over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    found: Array = shifted / shifted.sum(-1, keepdims=True)
    return found


def confusion_of(predictions: Array, references: Array | Indices) -> Array:
    """Return the number of examples by reference (rows) and predicted class (columns).

    Args:
        predictions: Logits, shape [n, classes].
        references: Class indices, shape [n].
    """
    classes = predictions.shape[-1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (references.astype(int), predictions.argmax(-1)), 1)
    return confusion


def precision_and_recall(confusion: Array) -> tuple[Array, Array]:
    """Return the precision and the recall of each class; 0 for a class that is never predicted, or never occurs."""
    right = np.diag(confusion)
    return right / np.maximum(confusion.sum(0), 1), right / np.maximum(confusion.sum(1), 1)


def roc_auc(values: Array, labels: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; 0.5 where the label applies everywhere or nowhere, and it is not defined.

    It is the share of pairs of examples that are ranked right, half for equal values (Mann and Whitney, 1947).
    Arguments as for `average_precision`.
    """
    positives, n = int(labels.sum()), len(values)
    if positives in (0, n):
        return 0.5
    above = mean_ranks(values)[labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (n - positives)))


def brier_terms(chances: Array, references: Array | Indices) -> Array:
    """Return the squared error of the probabilities of each example, shape [n].

    It is summed over the classes, and halved for two, whose errors are equal: the score is then that of the
    probability of one class (Brier, 1950).

    Args:
        chances: Probabilities, shape [n, classes].
        references: Class indices, shape [n].
    """
    classes = chances.shape[1]
    errors = ((chances - np.eye(classes)[references.astype(int)]) ** 2).sum(1)
    terms: Array = errors / 2 if classes == 2 else errors
    return terms


def calibration_error(chances: Array, references: Array | Indices) -> float:
    """Return the expected calibration error: the mean over examples of |accuracy − confidence| of their bins.

    The confidence of an example is the probability of its predicted class. The 15 bins have equal widths, and each
    holds its upper edge (Guo et al., 2017). Arguments as for `brier_terms`.
    """
    confidence, is_right = chances.max(1), chances.argmax(1) == references
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, weights=is_right - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def calibrated_error(predictions: Array, references: Array | Indices) -> float:
    """Return the calibration error of every second example, after the temperature that is fitted to the others.

    Arguments as for `classification_scores`.
    """
    if len(predictions) < 2:
        return calibration_error(probabilities(predictions), references)
    temperature = fit_temperature(predictions[::2], references[::2])
    return calibration_error(probabilities(predictions[1::2] / temperature), references[1::2])


def fit_temperature(predictions: Array, references: Array | Indices) -> float:
    """Return the temperature by which logits are divided so that their cross entropy is least, within [0.05, 20].

    The cross entropy is convex in the inverse temperature, whose derivative changes its sign once; it is found by
    bisection on a logarithmic scale. Arguments as for `classification_scores`.

    Example:
        >>> logits = np.log([[0.75, 0.25]] * 4)  # three of four are right, as they say
        >>> round(fit_temperature(2 * logits, np.array([0, 0, 0, 1])), 3)
        2.0
    """
    finite = np.maximum(predictions, -1e4)  # a class that is impossible stays so
    own = finite[np.arange(len(finite)), references.astype(int)]
    low, high = 1 / _HOTTEST, _HOTTEST
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        rises = float(np.mean((probabilities(middle * finite) * finite).sum(1) - own)) > 0
        low, high = (low, middle) if rises else (middle, high)
    return 1 / math.sqrt(low * high)


def _positive(positive: int | None) -> int:
    """Return the class of two that scores of one class score: the second, unless another one is named."""
    return 1 if positive is None else positive


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
