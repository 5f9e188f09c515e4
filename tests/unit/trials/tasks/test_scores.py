"""The scores against those of scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from trials.kinds.scores import TokenScores, causal_lm_scores, classification_scores, regression_scores
from trials.kinds.text_scores import TEXT_METRICS, text_scores
from trials.tasks.metrics import metrics_for


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_classification_agrees_with_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth, logits = rng.integers(0, min(classes, 6), 200), rng.normal(size=(200, classes))
    if classes == 7:
        logits[:, 6] = -9.0  # one class occurs nowhere
    guess = logits.argmax(-1)
    found = classification_scores(logits, truth)
    average = "binary" if classes == 2 else "macro"
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess), abs=1e-12)
    assert found["f1"] == pytest.approx(reference.f1_score(truth, guess, average=average), abs=1e-12)
    assert found["matthews"] == pytest.approx(reference.matthews_corrcoef(truth, guess), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_f1_of_a_named_class_is_that_class_against_the_rest(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth, logits = rng.integers(0, classes, 200), rng.normal(size=(200, classes))
    for positive in range(classes):
        found = classification_scores(logits, truth, positive)
        expected = reference.f1_score(truth == positive, logits.argmax(-1) == positive)
        assert found["f1"] == pytest.approx(expected, abs=1e-12)
        assert found["accuracy"] == classification_scores(logits, truth)["accuracy"]


def test_f1_of_a_class_that_occurs_nowhere_is_zero() -> None:
    truth, logits = np.array([0, 1]), np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    assert classification_scores(logits, truth, positive=2)["f1"] == 0.0


def test_constant_predictions_have_no_matthews_correlation() -> None:
    logits = np.tile([0.0, 1.0], (10, 1))
    found = classification_scores(logits, np.array([0, 1] * 5))
    assert (found["accuracy"], found["matthews"]) == (0.5, 0.0)
    assert classification_scores(logits, np.zeros(10, dtype=int))["f1"] == 0.0


def test_regression_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    references = rng.integers(0, 9, 60).astype(float)  # with ties
    predictions = references + rng.normal(size=60)
    found = regression_scores(predictions, references)
    assert found["pearson"] == pytest.approx(stats.pearsonr(predictions, references).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(predictions, references).statistic, abs=1e-12)
    assert found["mse"] == pytest.approx(reference.mean_squared_error(references, predictions), abs=1e-12)
    constant = regression_scores(np.zeros(60), references)
    assert (constant["pearson"], constant["spearman"]) == (0.0, 0.0)


def test_token_scores_are_means_over_tokens_and_examples() -> None:
    scores = TokenScores(tokens=np.array([2.0, 4.0]), loss=np.array([1.0, 5.0]), correct=np.array([2.0, 1.0]))
    assert causal_lm_scores(scores) == {
        "perplexity": pytest.approx(math.e),
        "token_accuracy": 0.5,
        "teacher_forced_exact_match": 0.5,
    }


def test_every_metric_of_a_task_is_computed() -> None:
    two = np.array([[0.0, 1.0], [1.0, 0.0]])
    computed = {
        "sequence-classification": classification_scores(two, np.array([1, 0])),
        "regression": regression_scores(two[0], two[1]),
        "causal-lm": {
            **causal_lm_scores(TokenScores(*np.ones((3, 2)))),
            **text_scores(["a"], ["a"], list(TEXT_METRICS)).metrics,
        },
    }
    for task, found in computed.items():
        assert [*found, "eval_loss"] == metrics_for(task)
