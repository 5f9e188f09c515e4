"""Scores per example: their values and their compact form."""

from __future__ import annotations

import numpy as np
import pytest

from trials.tasks.example_scores import decode_scores, encode_scores, example_scores


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
    assert decode_scores(encode_scores(np.array([1e9, 2.0]))).tolist() == [65504.0, 2.0]


def test_another_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="no encoding of scores"):
        decode_scores("float8:1:AAAA")


def test_means_over_examples_are_the_metrics() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    losses, labels = np.array([0.1, 0.2, 0.3, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    found = example_scores("sequence-classification", (losses, logits, labels))
    assert found["accuracy"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["eval_loss"].mean() == pytest.approx(0.4)
    assert example_scores("regression", (losses, labels, labels))["mse"].mean() == pytest.approx(0.4)


def test_of_a_language_model_they_are_weighted_by_tokens() -> None:
    tokens, loss, correct = np.array([1.0, 3.0]), np.array([1.0, 5.0]), np.array([1.0, 2.0])
    found = example_scores("causal-lm", (tokens, loss, correct))
    assert found["eval_loss"].mean() == pytest.approx(6 / 4)
    assert found["token_accuracy"].mean() == pytest.approx(3 / 4)
    assert found["exact_match"].tolist() == [1.0, 0.0]
