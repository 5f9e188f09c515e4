"""The scores against those of scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn import metrics as reference

from trials.kinds.generation import TEXT_METRICS, text_scores
from trials.kinds.scoring.scores import (
    TokenScores,
    calibration_error,
    causal_lm_scores,
    classification_scores,
    fit_temperature,
    regression_scores,
)
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
    for name in ("precision", "recall"):
        expected = getattr(reference, f"{name}_score")(truth, guess, average=average, zero_division=0)
        assert found[name] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("classes", [2, 4])
def test_f1_of_a_named_class_is_that_class_against_the_rest(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth, logits = rng.integers(0, classes, 200), rng.normal(size=(200, classes))
    for positive in range(classes):
        found = classification_scores(logits, truth, positive)
        expected = reference.f1_score(truth == positive, logits.argmax(-1) == positive)
        assert found["f1"] == pytest.approx(expected, abs=1e-12)
        assert found["accuracy"] == classification_scores(logits, truth)["accuracy"]


@pytest.mark.parametrize("positive", [None, 0, 2])
def test_rankings_agree_with_scikit_learn(positive: int | None) -> None:
    rng = np.random.default_rng(3)
    truth, logits = rng.integers(0, 3, 90), rng.normal(size=(90, 3)).round(1)
    logits[1::3] = logits[::3]  # equal probabilities share a threshold
    found, chances = classification_scores(logits, truth, positive), special.softmax(logits, axis=1)
    for name, score in (
        ("average_precision", reference.average_precision_score),
        ("roc_auc", reference.roc_auc_score),
    ):
        scored = range(3) if positive is None else [positive]
        expected = np.mean([score(truth == c, chances[:, c]) for c in scored])
        assert found[name] == pytest.approx(expected, abs=1e-12), name


def test_a_ranking_of_one_class_only_is_undecided() -> None:
    found = classification_scores(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 0]))
    assert (found["roc_auc"], found["average_precision"]) == (0.5, 0.0)


def test_the_brier_score_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    truth, logits = rng.integers(0, 2, 50), rng.normal(size=(50, 2))
    expected = reference.brier_score_loss(truth, special.softmax(logits, axis=1)[:, 1])
    assert classification_scores(logits, truth)["brier"] == pytest.approx(expected, abs=1e-12)
    three = np.log([[0.5, 0.3, 0.2]])  # 0.25 + 0.09 + 0.64
    assert classification_scores(three, np.array([2]))["brier"] == pytest.approx(0.98, abs=1e-12)


def test_the_calibration_error_weighs_the_gaps_of_its_bins() -> None:
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [0.55, 0.45]])
    truth = np.array([0, 1, 1, 0])
    # Bins of 1/15: 0.9 is alone with 50 % right, 0.8 with none right, 0.55 with all right.
    assert calibration_error(chances, truth) == pytest.approx((2 * 0.4 + 0.8 + 0.45) / 4)
    edge = np.array([[0.8, 0.2], [0.75, 0.25]])  # 12/15 belongs to the bin below it
    assert calibration_error(edge, np.array([0, 1])) == pytest.approx(abs(1 - 0.8 - 0.75) / 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_is_that_of_least_cross_entropy(classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(400, classes))
    truth = np.array([rng.choice(classes, p=chance) for chance in special.softmax(logits, axis=1)])

    def loss(log_temperature: float) -> float:
        return float(reference.log_loss(truth, special.softmax(3 * logits / np.exp(log_temperature), axis=1)))

    best = optimize.minimize_scalar(loss, bounds=(-2, 3), method="bounded", options={"xatol": 1e-6}).x
    assert fit_temperature(3 * logits, truth) == pytest.approx(np.exp(best), rel=1e-3)
    found = classification_scores(3 * logits, truth)
    assert found["ece_calibrated"] < found["ece"]


def test_a_temperature_has_bounds() -> None:
    always_right, always_wrong = np.array([0, 0]), np.array([1, 1])
    logits = np.array([[2.0, 0.0], [1.0, 0.0]])
    assert fit_temperature(logits, always_right) == pytest.approx(0.05, rel=1e-5)
    assert fit_temperature(logits, always_wrong) == pytest.approx(20, rel=1e-5)


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
