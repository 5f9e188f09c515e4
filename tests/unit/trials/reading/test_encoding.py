"""What a row becomes: the tokens, and above all which of them are learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trials.data.tokenizers import load_tokenizer
from trials.kinds.encoding import encode
from trials.kinds.registry import find_kind
from trials.reading.encoding import IGNORED
from trials.tasks.specs import ModelSpec, TaskSpec


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[[str], Path]):
    return load_tokenizer(ModelSpec(name=str(tiny_model("bert"))))


def fields(**given: object) -> dict[str, object]:
    return TaskSpec(**given).model_dump()


def learned_words(encoded, tokenizer) -> str:
    return tokenizer.decode([token for token in encoded["labels"] if token != IGNORED])


def test_a_pair_goes_in_with_its_separator(tokenizer):
    task = fields(text=["a", "b"], label="y")
    encoded = encode({"a": "good film", "b": "the end", "y": "no"}, task, tokenizer, ["no", "yes"])
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] good film [SEP] the end [SEP]"
    assert encoded["labels"] == 0


def test_regression_labels_are_floats(tokenizer):
    task = fields(type="regression", text=["a"], label="y")
    assert encode({"a": "good", "y": 3}, task, tokenizer, None)["labels"] == 3.0


def test_plain_text_is_learned_whole(tokenizer):
    task = fields(type="causal-lm", text=["a"])
    encoded = encode({"a": "the film was good"}, task, tokenizer, None)
    assert encoded["labels"] == encoded["input_ids"]


def test_of_a_prompt_and_completion_only_the_completion_and_its_end_are_learned(tokenizer):
    task = fields(type="causal-lm", prompt="p", completion="c", chat_template="none")
    encoded = encode({"p": "the film was", "c": "good"}, task, tokenizer, None)
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] the film was good [SEP]"
    assert learned_words(encoded, tokenizer) == "good [SEP]"


def test_a_chat_template_wraps_prompt_and_completion_as_turns(tokenizer):
    task = fields(type="causal-lm", prompt="p", completion="c")
    encoded = encode({"p": "the film was", "c": "good"}, task, tokenizer, None)
    assert tokenizer.decode(encoded["input_ids"]) == "user : the film was | assistant : good | [SEP]"
    assert learned_words(encoded, tokenizer) == "good | [SEP]"


def test_a_sweep_of_data_version_1_goes_on_without_template_and_separator(tokenizer):
    task = fields(type="causal-lm", prompt="p", completion="c", data_version=1)
    encoded = encode({"p": "the film was", "c": "good"}, task, tokenizer, None)
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] the film was good [SEP]"
    assert learned_words(encoded, tokenizer) == "good [SEP]"


def test_of_a_chat_only_the_assistants_words_are_learned(tokenizer):
    task = fields(type="causal-lm", messages="m")
    chat = [
        {"role": "user", "content": "the film"},
        {"role": "assistant", "content": "was good"},
        {"role": "user", "content": "and the end"},
        {"role": "assistant", "content": "sad"},
    ]
    encoded = encode({"m": chat}, task, tokenizer, None)
    assert learned_words(encoded, tokenizer) == "was good | sad | [SEP]"
    assert tokenizer.decode(encoded["input_ids"]).startswith("user : the film | assistant :")


def test_examples_are_cut_at_max_length(tokenizer):
    task = fields(type="causal-lm", prompt="p", completion="c", max_length=4, chat_template="none")
    encoded = encode({"p": "the film was a story", "c": "good"}, task, tokenizer, None)
    assert len(encoded["input_ids"]) == len(encoded["labels"]) == 4
    assert set(encoded["labels"]) == {IGNORED}


def test_a_batch_is_padded_to_its_longest_and_padding_is_never_learned(tokenizer):
    task = fields(type="causal-lm", text=["a"])
    rows = [encode({"a": text}, task, tokenizer, None) for text in ("good", "the film was good")]
    batch = find_kind("causal-lm").collate(rows, tokenizer)
    mask, labels = batch.inputs["attention_mask"], batch.targets["labels"]
    assert batch.inputs["input_ids"].shape == labels.shape == (2, 6)
    assert mask.sum(1).tolist() == [3, 6]
    assert torch.equal(labels == IGNORED, mask == 0)
