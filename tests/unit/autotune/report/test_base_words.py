"""The base models in the sentence that says what was searched."""

from __future__ import annotations

import pytest

from autotune.report.headline import base_words
from trials.tasks.model_spec import ModelSpec


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"name": "roberta-base"}, "roberta-base"),
        ({"name": "roberta-base", "layers": "50%"}, "roberta-base with 50% of its layers"),
        ({"name": "big", "choices": ["25%", "50%", "100%"]}, "big with 25%, 50% or 100% of its layers"),
        ({"choices": ["hub/small", "hub/base"]}, "small or base"),
    ],
)
def test_the_models_of_a_sweep_in_words(section, words):
    assert base_words(ModelSpec.model_validate(section)) == words
