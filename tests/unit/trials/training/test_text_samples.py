"""The generated texts that a result keeps."""

from __future__ import annotations

from trials.kinds.generation import Generated
from trials.records import TextSample
from trials.training.held_out import SAMPLES, text_samples


def test_texts_are_spread_evenly_over_the_split() -> None:
    texts = [Generated(i, f"p{i}", f"t{i}", f"r{i}") for i in range(21)]
    assert [each.prompt for each in text_samples(texts)] == ["p0", "p5", "p10", "p15", "p20"]
    assert len(text_samples(texts[:3])) == 3 < SAMPLES
    assert text_samples(texts[:1]) == (TextSample("p0", "t0", "r0"),)
    assert text_samples([]) == ()


def test_long_texts_are_shortened_and_say_so() -> None:
    (found,) = text_samples([Generated(0, "a" * 3000 + "b" * 500, "c" * 501, "d" * 500)])
    assert found.prompt == "(3,000 more characters) … " + "b" * 500
    assert found.text == "c" * 500 + " … (1 more characters)"
    assert found.reference == "d" * 500
