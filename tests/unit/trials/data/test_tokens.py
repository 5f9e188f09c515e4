"""What a base model cannot read, or reads as something else, is found before anything is trained."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from search_spaces.errors import InvalidInputError
from search_spaces.model.reader import read_shape
from trials.data.task_data import TaskData, load_task
from trials.data.tokens import check_tokens
from trials.reading.special_tokens import choose_padding
from trials.tasks.specs import ModelSpec, TaskSpec

Rows = list[dict[str, Any]]


@pytest.fixture
def loaded(
    tiny_model: Callable[[str], Path], tmp_path: Path, write_jsonl: Callable[[str, Rows], Path]
) -> Callable[..., TaskData]:
    """Load texts of two classes for a tiny model whose tokenizer was changed."""

    def load(
        kind: str, texts: list[str], change: Callable[[Any], object] = lambda tokenizer: None, **task: Any
    ) -> TaskData:
        model = tmp_path / kind
        shutil.copytree(tiny_model(kind), model)
        tokenizer = AutoTokenizer.from_pretrained(model)
        change(tokenizer)
        tokenizer.save_pretrained(model)
        rows = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
        path = write_jsonl("train.jsonl", rows)
        given = {"train": str(path), "text": "text", "label": "label", "carve": 0.2, **task}
        data = load_task(TaskSpec(**given), ModelSpec(name=str(model)))
        check_tokens(data, read_shape(str(model), given.get("type", "sequence-classification"), data.outputs))
        return data

    return load


TEXTS = [f"the {word} was good {number}" for number in range(20) for word in ("film", "end")]


def with_text(place: int, text: str) -> list[str]:
    return [*TEXTS[:place], text, *TEXTS[place + 1 :]]


def message(act: Callable[[], object]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return str(caught.value)


def test_a_token_without_a_row_in_the_embedding_is_named_with_its_row(loaded):
    added = [f"word{number}" for number in range(64)]
    assert loaded("bert", TEXTS, lambda tokenizer: tokenizer.add_tokens(added))  # no text has them
    text = message(
        lambda: loaded("gpt2", with_text(6, "a word63 film"), lambda tokenizer: tokenizer.add_tokens(added))
    )
    assert re.search(r"(row|line) 7\b", text)
    assert "the token 'word63' has the id " in text
    assert "the model's embedding has 64 rows" in text
    assert "resize_token_embeddings" in text


def test_a_padding_token_that_was_added_without_a_row_is_refused(loaded):
    def add_padding(tokenizer: Any) -> None:
        tokenizer.add_tokens([f"word{number}" for number in range(64)])
        tokenizer.add_special_tokens({"pad_token": "<padding>"})

    text = message(lambda: loaded("llama", TEXTS, add_padding))
    assert "the padding token '<padding>' has the id " in text
    assert "resize_token_embeddings" in text


def test_an_end_of_text_token_inside_a_text_is_refused_for_an_encoder_decoder(loaded):
    """The classifiers of T5 and BART read the last end-of-text token, and need equally many in each text."""
    text = message(lambda: loaded("t5", with_text(3, "the film [SEP] was dull")))
    assert text.startswith("task.text: 1 text contains the end-of-text token '[SEP]'")
    assert re.search(r"(row|line) 4\b", text)
    assert loaded("bert", with_text(3, "the film [SEP] was dull"))


def test_an_encoder_decoder_needs_padding_that_is_no_end_of_text(loaded):
    text = message(lambda: loaded("t5", TEXTS, lambda tokenizer: setattr(tokenizer, "pad_token", "[SEP]")))
    assert "pads with its end-of-text token '[SEP]'" in text


def test_a_tokenizer_without_padding_takes_a_token_that_ends_a_text(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    for ends in (("eos_token", "[SEP]"), ("cls_token", "[CLS]")):
        for name in ("pad_token", "eos_token", "sep_token", "bos_token", "cls_token"):
            setattr(tokenizer, name, None)
        setattr(tokenizer, *ends)
        assert choose_padding(tokenizer).pad_token == ends[1]


def test_a_tokenizer_without_any_token_that_can_pad_is_refused(loaded):
    def remove(tokenizer: Any) -> None:
        for name in ("pad_token", "eos_token", "sep_token", "bos_token", "cls_token"):
            setattr(tokenizer, name, None)

    assert "no padding token" in message(lambda: loaded("gpt2", TEXTS, remove))


def test_special_tokens_inside_texts_are_counted(loaded):
    texts = with_text(5, "good [SEP] film")
    data = loaded("bert", texts)
    found = [note for note in data.notes if "special token" in note]
    assert len(found) == 1
    assert re.search(
        r"1 row contains special tokens of the tokenizer .*, '\[SEP\]': (row|line) 6\b", found[0]
    )
    assert not data.warnings


def test_special_tokens_in_chats_are_warned_of(tiny_model, write_jsonl):
    def chat(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "good"}]}

    path = write_jsonl("chats.jsonl", [chat(f"a [SEP] film {number}") for number in range(40)])
    task = TaskSpec(type="causal-lm", train=str(path), messages="messages")
    data = load_task(task, ModelSpec(name=str(tiny_model("llama"))))
    assert sum("special tokens of the tokenizer" in warning for warning in data.warnings) == 3


@pytest.mark.parametrize(("template", "warnings"), [("auto", 3), ("none", 0)])
def test_special_tokens_in_prompts_are_warned_of_if_the_prompts_become_turns(
    template, warnings, tiny_model, write_jsonl
):
    rows = [{"p": f"a [SEP] film {number}", "c": f"good {number}"} for number in range(40)]
    columns = {"prompt": "p", "completion": "c", "chat_template": template}
    task = TaskSpec(type="causal-lm", train=str(write_jsonl("pairs.jsonl", rows)), **columns)
    data = load_task(task, ModelSpec(name=str(tiny_model("llama"))))
    assert sum("special tokens of the tokenizer" in warning for warning in data.warnings) == warnings


@pytest.mark.parametrize("has_end", [True, False])
def test_completions_need_an_end_of_text_token_that_the_tokenizer_need_not_add(
    has_end, tiny_model, tmp_path, write_jsonl
):
    model = tmp_path / "t5"
    shutil.copytree(tiny_model("t5"), model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    if not has_end:
        tokenizer.eos_token = None
    tokenizer.save_pretrained(model)
    path = write_jsonl("pairs.jsonl", [{"p": f"a film {i}", "c": f"good {i}"} for i in range(20)])
    task = TaskSpec(type="seq2seq", train=str(path), prompt="p", completion="c", carve=0.2)
    data = load_task(task, ModelSpec(name=str(model)))
    shape = read_shape(str(model), "seq2seq", 1)
    if has_end:
        end = data.tokenizer.eos_token_id
        assert all(end not in e["input_ids"] and e["labels"][-1] == end for e in data.splits["train"])
        check_tokens(data, shape)
    else:
        assert "no end-of-text token, so the decoder" in message(lambda: check_tokens(data, shape))
