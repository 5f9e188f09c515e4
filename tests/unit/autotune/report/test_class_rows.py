"""Scores by class in the report, against those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from autotune.report.class_rows import class_scores, details
from tests.support.confirmations import searched_sweep


def test_the_scores_of_each_class_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, 60).astype(float), rng.integers(0, 4, 60).astype(float)
    expected = precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)[:3]
    assert class_scores(truth, predicted, 5) == pytest.approx(np.array(expected).T)


def test_without_confirmation_there_are_no_details() -> None:
    assert details(searched_sweep([1e3, 1e4], [0.8, 0.9])) == (None, [])
