"""Scores of generated texts against references: exact match, ROUGE, BLEU and chrF.

ROUGE is that of rouge-score (Google's), BLEU and chrF are those of sacrebleu; both are imported when one of their
scores is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .kind import Array, Metric

_SHARE = Metric("maximize", 1.0, worst=0.0, is_generated=True)
_PERCENT = Metric("maximize", 100.0, worst=0.0, is_generated=True)
_ROUGE = ("rouge1", "rouge2", "rougeL")
_CORPUS = ("bleu", "chrf")
TEXT_METRICS = {"exact_match": _SHARE, **dict.fromkeys(_ROUGE, _SHARE), **dict.fromkeys(_CORPUS, _PERCENT)}
"""The scores of generated text by name. `exact_match` and ROUGE are means over examples, between 0 and 1. BLEU and
chrF are of the whole corpus, between 0 and 100, as sacrebleu reports them."""
PACKAGES = {
    **dict.fromkeys(_ROUGE, ("rouge_score.rouge_scorer", "rouge-score")),
    **dict.fromkeys(_CORPUS, ("sacrebleu", "sacrebleu")),
}
"""The module that computes a score, and the package that has it."""


class TextScores(NamedTuple):
    """The scores of generated texts.

    Args:
        metrics: The scores by name.
        example_scores: The score of each example, shape [n], for the scores that are means over examples.
    """

    metrics: dict[str, float]
    example_scores: dict[str, Array]


class MissingPackageError(ImportError):
    """The package that computes a score is not installed."""


def text_scores(generated: Sequence[str], references: Sequence[str], names: Sequence[str]) -> TextScores:
    """Return scores of generated texts; each text is stripped of white space at both ends, and nothing else.

    Args:
        generated: One text per example.
        references: The reference of each example.
        names: The names of the scores, of `TEXT_METRICS`.

    Raises:
        MissingPackageError: The package of a score is not installed.

    Example:
        >>> text_scores([" Paris\\n", "Rome"], ["Paris", "rome"], ["exact_match"]).metrics
        {'exact_match': 0.5}
    """
    found = [text.strip() for text in generated]
    wanted = [text.strip() for text in references]
    each: dict[str, Array] = {}
    if "exact_match" in names:
        equal = [one == other for one, other in zip(found, wanted, strict=True)]
        each["exact_match"] = np.array(equal, dtype=float)
    if rouge := [name for name in _ROUGE if name in names]:
        scorer = library(rouge[0]).RougeScorer(rouge)
        rows = [scorer.score(reference, text) for text, reference in zip(found, wanted, strict=True)]
        each |= {name: np.array([row[name].fmeasure for row in rows]) for name in rouge}
    metrics = {name: float(scores.mean()) for name, scores in each.items()}
    if "bleu" in names:
        metrics["bleu"] = float(library("bleu").corpus_bleu(found, [wanted]).score)
    if "chrf" in names:
        metrics["chrf"] = float(library("chrf").corpus_chrf(found, [wanted]).score)
    return TextScores({name: metrics[name] for name in names}, each)


def library(name: str) -> ModuleType:
    """Return the module that computes a score.

    Raises:
        MissingPackageError: It is not installed.
    """
    module, package = PACKAGES[name]
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"{name} needs the package {package}: pip install {package}") from error
