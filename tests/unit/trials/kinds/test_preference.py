"""Encoding, scores and leakage of preference pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from search_spaces.parameters.preference import LOSS_PARAMETERS
from tests.support.chat_tokenizers import chat_tokenizer
from trials.data.leakage import text_keys
from trials.data.preview import _preview
from trials.kinds.encoding import encode_rows
from trials.kinds.kind import Scoring
from trials.kinds.preference import Preference
from trials.kinds.preference_losses import LOSSES, SCORED_AT
from trials.reading.encoding import IGNORED
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
KIND = Preference()


def task(**fields: Any) -> TaskSpec:
    return TaskSpec(type="preference", chosen="c", rejected="r", **fields)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMS: dict[str, dict[str, Any]] = {
    "prompt and answers": {"p": [user("what")], "c": [assistant("the weather")], "r": [assistant("a tool")]},
    "whole chats": {
        "c": [user("what"), assistant("the weather")],
        "r": [user("what"), assistant("a tool")],
    },
    "texts": {"p": "what", "c": "the weather", "r": "a tool"},
}


@pytest.mark.parametrize("form", FORMS)
def test_both_answers_follow_the_same_prompt(form: str) -> None:
    tokenizer, row = chat_tokenizer(CHATML), FORMS[form]
    fields = task(**({"prompt": "p"} if "p" in row else {})).model_dump()
    rows = KIND.rows(KIND.encode(row, fields, tokenizer, None).example)
    starts, answers = [], []
    for each in rows:
        start = next(i for i, label in enumerate(each["labels"]) if label != IGNORED)
        starts.append(each["input_ids"][:start])
        answers.append(tokenizer.decode([token for token in each["labels"] if token != IGNORED]))
    assert starts[0] == starts[1]
    assert "what" in tokenizer.decode(starts[0])
    assert ["the weather" in answers[0], "a tool" in answers[1]] == [True, True]


def test_both_rows_are_cut_and_a_pair_without_an_answer_is_dropped() -> None:
    tokenizer, fields = chat_tokenizer(""), task(prompt="p", chat_template="none").model_dump()
    rows = Rows(
        {"p": ["the user", "the user asks"], "c": ["what is the weather", "a"], "r": ["tool", "the answer"]}
    )
    whole = encode_rows(rows, fields, tokenizer, None)
    lengths = [[len(row["input_ids"]) for row in example["rows"]] for example in whole.examples]
    limit = lengths[0][0] - 1
    cut = encode_rows(rows, {**fields, "max_length": limit}, tokenizer, None)
    assert [len(row["input_ids"]) for row in cut.examples[0]["rows"]] == [limit, min(limit, lengths[0][1])]
    assert (cut.cut.shortened, cut.cut.lost) == (1, 1)
    prompt = next(i for i, label in enumerate(whole.examples[0]["rows"][0]["labels"]) if label != IGNORED)
    assert encode_rows(rows, {**fields, "max_length": prompt}, tokenizer, None).kept == []


def test_rewards_that_differ_by_rounding_count_half() -> None:
    chosen, rejected = np.array([-3.0, -2.0, -5.0, -4.0]), np.array([-4.0, -2.0 + 1e-6, -4.0, -8.0])
    tokens, nothing = np.array([1.0, 1.0, 1.0, 4.0]), np.zeros(4)
    scoring = Scoring(task=task(prompt="p").model_dump())
    found = KIND.finish((chosen, rejected, tokens, np.ones(4), nothing, nothing), [], scoring)
    scores = KIND.scores(found, scoring)
    assert scores["reward_accuracy"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert scores["reward_margin"] == pytest.approx((1 + 0 - 1 + 4) / 4, abs=1e-5)
    predictions, references = KIND.answers(found[:6], [], scoring) or ([], [])
    assert (predictions[0], references) == ((-3.0, -4.0), ["chosen"] * 4)
    assert KIND.example_scores(found)["likelihood_accuracy"].tolist() == [1, 0.5, 0, 1]
    without = KIND.finish((*found[:4], nothing * np.nan, nothing), [], scoring)
    assert np.isnan(KIND.scores(without, scoring)["eval_loss"])


def test_the_losses_are_scored_at_the_defaults_of_their_parameters() -> None:
    assert set(LOSSES) == set(SCORED_AT) == set(LOSS_PARAMETERS)
    for loss, parameters in LOSS_PARAMETERS.items():
        defaults = {parameter.name: parameter.default for parameter in parameters}
        assert (defaults["beta"], defaults.get("margin", 0.0)) == SCORED_AT[loss]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"type": "preference", "text": "t"}, "task.chosen"),
        ({"type": "preference", "chosen": "c"}, "task.rejected"),
        ({"type": "causal-lm", "chosen": "c", "rejected": "r", "loss": "dpo"}, "task.loss"),
        ({"type": "preference", "chosen": "c", "rejected": "r", "label": "l"}, "task.label"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=f"{where}: "):
        TaskSpec(**fields)


def test_pairs_of_one_prompt_are_carved_together_and_reversed_pairs_are_equal() -> None:
    rows = Rows({"p": ["what", "What", "who"], "c": ["a", "b", "a"], "r": ["b", "a", "b"]})
    keys = text_keys(rows, task(prompt="p"))
    assert keys.similar[0] == keys.similar[1] != keys.similar[2]
    rows = Rows({"p": ["what", "what"], "c": ["a", "b"], "r": ["b", "a"]})
    assert len(set(text_keys(rows, task(prompt="p")).exact)) == 1


def test_a_preview_shows_both_answers() -> None:
    tokenizer, spec = chat_tokenizer(CHATML), task(prompt="p")
    row = FORMS["texts"]
    example = KIND.encode(row, spec.model_dump(), tokenizer, None).example
    shown = _preview(row, example, "row 1", spec, tokenizer, None)
    assert "the weather" in "".join(span.text for span in shown.spans if span.is_learned)
    assert "a tool" in "".join(span.text for span in shown.rejected if span.is_learned)
    assert shown.learned == KIND.learned_tokens(example)


def test_pairs_of_equal_answers_are_dropped_and_counted() -> None:
    same = {"p": "what", "c": "the weather", "r": "the weather"}
    rows = Rows.of([FORMS["texts"], same, FORMS["texts"], same])
    fields = task(prompt="p", chat_template="none", max_length=20).model_dump()
    encoded = encode_rows(rows, fields, chat_tokenizer(CHATML), None)
    assert encoded.kept == [0, 2]
    assert encoded.dropped == {"both answers are equal within 20 tokens": 2}
