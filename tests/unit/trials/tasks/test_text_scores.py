"""Scores of generated text: exact match, ROUGE, BLEU and chrF."""

from __future__ import annotations

import sys

import pytest

from trials.kinds.generation import TEXT_METRICS, MissingPackageError, text_scores

GENERATED = [" the cat sat on the mat\n", "hello", "a b c d e"]
REFERENCES = ["the cat sat on the mat", "Hello", "a b c d e f g h"]
LONG = ["the cat sat on the mat", "a b c d e f g h"]


def test_exact_match_strips_white_space_and_nothing_else() -> None:
    found = text_scores(GENERATED, REFERENCES, ["exact_match"])
    assert found.metrics == {"exact_match": pytest.approx(1 / 3)}
    assert found.example_scores["exact_match"].tolist() == [1, 0, 0]


def test_rouge_is_the_mean_f1_of_the_examples() -> None:
    found = text_scores(GENERATED, REFERENCES, ["rouge1", "rouge2", "rougeL"])
    # Of "a b c d e" all 5 words, of its reference 5 of 8; pairs: 4 of 4 and 4 of 7. rouge-score ignores case.
    assert found.example_scores["rouge1"].tolist() == pytest.approx([1, 1, 10 / 13])
    assert found.example_scores["rouge2"].tolist() == pytest.approx([1, 0, 8 / 11])
    assert found.example_scores["rougeL"].tolist() == pytest.approx([1, 1, 10 / 13])
    assert found.metrics["rouge2"] == pytest.approx((1 + 8 / 11) / 3)


def test_bleu_and_chrf_are_of_the_corpus() -> None:
    import sacrebleu

    found = text_scores(GENERATED, REFERENCES, ["bleu", "chrf"])
    stripped = [text.strip() for text in GENERATED]
    assert found.metrics["bleu"] == sacrebleu.corpus_bleu(stripped, [REFERENCES]).score
    assert found.metrics["chrf"] == sacrebleu.corpus_chrf(stripped, [REFERENCES]).score
    assert found.example_scores == {}, "they are no means over examples"


@pytest.mark.parametrize("texts", [LONG, [""] * 2])
def test_every_score_is_within_its_bounds(texts: list[str]) -> None:
    found = text_scores(texts, LONG, list(TEXT_METRICS)).metrics
    for name, metric in TEXT_METRICS.items():
        expected = metric.best if texts is LONG else metric.worst
        assert found[name] == pytest.approx(expected, abs=1e-9), name


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingPackageError, match="chrf needs the package sacrebleu: pip install sacrebleu"):
        text_scores(GENERATED, REFERENCES, ["chrf"])
