"""Scores per example: their values and their compact form."""

from __future__ import annotations

import numpy as np
import pytest

from trials.kinds.registry import find_kind
from trials.tasks.example_scores import decode_scores, encode_scores


def test_bits_of_any_number_of_examples_read_back() -> None:
    for count in (1, 7, 8, 9, 2000):
        scores = (np.arange(count) % 3 == 0).astype(float)
        text = encode_scores(scores)
        assert (decode_scores(text) == scores).all()
        assert len(text) <= 16 + count / 5


def test_other_numbers_keep_three_digits() -> None:
    scores = np.random.default_rng(0).exponential(size=1000)
    text = encode_scores(scores)
    assert decode_scores(text) == pytest.approx(scores, rel=1e-3)
    assert len(text) < 3 * len(scores)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e5, 1e11, 1e300])
def test_numbers_of_any_size_keep_three_digits(size: float) -> None:
    scores = size * np.array([0.25, 1.0, 1 / 3, 0.0])
    assert decode_scores(encode_scores(scores)) == pytest.approx(scores, rel=1e-3, abs=0.0)


def test_small_scores_beside_a_large_one_are_kept() -> None:
    assert decode_scores(encode_scores(np.array([1e9, 2.0]))) == pytest.approx([1e9, 2.0], rel=1e-3)


def test_scores_that_an_earlier_version_stored_are_read() -> None:
    assert decode_scores("float16:2:ADwAQA==").tolist() == [1.0, 2.0]


def test_another_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="no encoding of scores"):
        decode_scores("float8:1:AAAA")


def test_means_over_examples_are_the_metrics() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    losses, labels = np.array([0.1, 0.2, 0.3, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    found = find_kind("sequence-classification").example_scores((losses, logits, labels))
    assert found["accuracy"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["eval_loss"].mean() == pytest.approx(0.4)


def test_of_a_regression_the_loss_is_standardized_and_the_error_is_in_the_units_of_the_targets() -> None:
    losses, outputs, references = np.array([1.0, 4.0]), np.array([100.0, 300.0]), np.array([0.0, 100.0])
    found = find_kind("regression").example_scores((losses, outputs, references))
    assert found["eval_loss"].tolist() == [1.0, 4.0]
    assert found["mse"].tolist() == [10_000.0, 40_000.0]


def test_of_a_language_model_they_are_weighted_by_tokens() -> None:
    tokens, loss, correct = np.array([1.0, 3.0]), np.array([1.0, 5.0]), np.array([1.0, 2.0])
    found = find_kind("causal-lm").example_scores((tokens, loss, correct))
    assert found["eval_loss"].mean() == pytest.approx(6 / 4)
    assert found["token_accuracy"].mean() == pytest.approx(3 / 4)
    assert found["teacher_forced_exact_match"].tolist() == [1.0, 0.0]
