"""The sections of an exported README on classes and on new parts of the head."""

from __future__ import annotations

from dataclasses import replace

from autotune.export.head_notes import head_notes
from search_spaces.model.parts import HeadMatrix
from tests.support.shapes import BERT


def test_classes_are_listed_in_the_order_of_the_outputs() -> None:
    text = head_notes(BERT, ["b | c", "a\nd", "3"])
    assert "| 0 | b \\| c |\n| 1 | a d |\n| 2 | 3 |\n" in text
    assert head_notes(BERT, None) == ""


def test_a_part_that_the_checkpoint_lacks_is_named() -> None:
    pooler = HeadMatrix("bert.pooler.dense", 32, 32, trained=False, per_token=False, bias=True)
    shape = replace(BERT, head=(pooler,))
    assert head_notes(shape, None) == ""
    new = shape.with_new_head_parts({"bert.pooler.dense.weight", "bert.encoder.layer.0.x"})
    assert "no weights of `bert.pooler.dense`" in head_notes(new, None)
