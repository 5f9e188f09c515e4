"""Entities of tags are those of seqeval."""

from __future__ import annotations

import numpy as np
import pytest

from trials.kinds.scoring.tags import TagScheme, entity_counts, entity_scores

BIO = ["B-per", "B-loc", "I-per", "I-loc", "O"]
BIOES = [*BIO, "E-per", "E-loc", "S-per", "S-loc"]


def named(scheme: TagScheme, names: list[str], sentence: list[str]) -> set[tuple[int, int, int]]:
    return scheme.entities([names.index(tag) for tag in sentence])


@pytest.mark.parametrize("names", [BIO, BIOES, ["NOUN", "VERB", "O"]])
def test_scores_are_those_of_seqeval(names: list[str]) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    rng, scheme = np.random.default_rng(0), TagScheme(names)
    for _ in range(40):
        sizes = rng.integers(1, 12, 6)
        known = [rng.choice(names, size).tolist() for size in sizes]
        predicted = [
            [tag if rng.random() < 0.6 else str(rng.choice(names)) for tag in sentence] for sentence in known
        ]
        counts = np.zeros(3)
        for guess, truth in zip(predicted, known, strict=True):
            counts += entity_counts(named(scheme, names, guess), named(scheme, names, truth))
        expected = {
            "entity_f1": metrics.f1_score(known, predicted, zero_division=0),
            "entity_precision": metrics.precision_score(known, predicted, zero_division=0),
            "entity_recall": metrics.recall_score(known, predicted, zero_division=0),
        }
        assert entity_scores(*counts) == pytest.approx(expected, abs=1e-12)


def test_without_entities_every_score_is_zero() -> None:
    assert entity_scores(0, 0, 0) == {"entity_f1": 0.0, "entity_precision": 0.0, "entity_recall": 0.0}


def test_an_entity_ends_where_the_type_changes() -> None:
    scheme = TagScheme(BIO)
    assert len(named(scheme, BIO, ["B-per", "I-loc", "I-loc", "O", "I-per"])) == 3
    assert scheme.entities([0, -1, 2]) == {(0, 0, 0), (0, 2, 2)}  # -1 is outside, whatever the tags are
