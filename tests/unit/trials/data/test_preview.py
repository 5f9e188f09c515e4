"""An example as the model sees it: decoded tokens, loss positions, label and cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from trials.data import preview as preview_module
from trials.data.preview import ExamplePreview, Span, preview_first
from trials.data.sources import SPLITS
from trials.tasks.specs import ModelSpec, TaskSpec

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, as GPT-2's without merges."""
    vocabulary = {"<s>": 0, "</s>": 1} | {c: i + 2 for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")
    found.chat_template = chat_template
    return found


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of words with a space before each, as SentencePiece's, which begins texts with <s>."""
    words = ["<s>", "</s>", "<unk>", "▁good", "▁film", "▁bad", "▁answer", "▁it", "▁is"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )


def preview(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[dict[str, Any]], **task: Any
) -> ExamplePreview:
    path = folder / "train.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    monkeypatch.setattr(preview_module, "load_tokenizer", lambda model: tokenizer)
    spec = TaskSpec.model_validate({**dict.fromkeys(SPLITS, str(path)), **task})
    return preview_first(spec, ModelSpec(name="model"))


CAUSAL: dict[str, Any] = {"type": "causal-lm", "max_length": 100}
COMPLETION = {**CAUSAL, "prompt": "prompt", "completion": "completion"}


def test_a_completion_is_learned_and_its_prompt_is_not(tmp_path, monkeypatch) -> None:
    row = {"prompt": "Zwei? ", "completion": "Ja, größer 😀."}
    found = preview(tmp_path, monkeypatch, byte_tokenizer(), [row], **COMPLETION)
    assert found.spans == (Span("Zwei? ", False), Span("Ja, größer 😀.</s>", True))
    assert found.learned == len("Ja, größer 😀.".encode()) + 1
    assert found.tokens == found.uncut == len(b"Zwei? ") + found.learned
    assert found.label is None


def test_only_assistant_turns_are_learned(tmp_path, monkeypatch) -> None:
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "2+2"), ("assistant", "4")]
    row = {"chat": [{"role": role, "content": text} for role, text in turns]}
    found = preview(tmp_path, monkeypatch, byte_tokenizer(TEMPLATE), [row, row], messages="chat", **CAUSAL)
    assert [span.text for span in found.spans if span.is_learned] == ["hello</s>", "4</s>"]
    assert "".join(span.text for span in found.spans) == (
        "<user>hi</s><assistant>hello</s><user>2+2</s><assistant>4</s>"
    )


def test_spaces_at_the_border_of_a_span_are_kept(tmp_path, monkeypatch) -> None:
    row = {"prompt": "it is", "completion": " good film"}
    found = preview(tmp_path, monkeypatch, word_tokenizer(), [row], **COMPLETION)
    assert found.spans[1] == Span(" good film</s>", True)


def test_the_first_token_of_plain_text_is_not_scored(tmp_path, monkeypatch) -> None:
    found = preview(tmp_path, monkeypatch, byte_tokenizer(), [{"text": "abc"}], text="text", **CAUSAL)
    assert found.spans == (Span("a", False), Span("bc</s>", True))
    assert found.learned == 3


@pytest.mark.parametrize(
    ("limit", "shown"), [(100, "ab cdef</s>"), (8, "ab cdef</s>"), (7, "ab cdef"), (4, "ab c")]
)
def test_what_the_limit_cuts_is_counted(tmp_path, monkeypatch, limit: int, shown: str) -> None:
    row = {"prompt": "ab ", "completion": "cdef"}
    found = preview(tmp_path, monkeypatch, byte_tokenizer(), [row], **{**COMPLETION, "max_length": limit})
    assert "".join(span.text for span in found.spans) == shown
    assert (found.tokens, found.uncut) == (min(limit, 8), 8)


def test_the_first_example_with_something_to_learn_is_shown(tmp_path, monkeypatch) -> None:
    rows = [{"prompt": "a" * 50, "completion": "b"}, {"prompt": "ab", "completion": "c"}]
    task = {"type": "causal-lm", "max_length": 20, "prompt": "prompt", "completion": "completion"}
    found = preview(tmp_path, monkeypatch, byte_tokenizer(), rows, **task)
    assert found.place == "line 2 of train.jsonl"


ROWS = [{"text": "good film", "stars": "high"}, {"text": "bad film", "stars": "low"}] * 3


def test_a_classifier_has_a_label_and_a_class(tmp_path, monkeypatch) -> None:
    found = preview(tmp_path, monkeypatch, word_tokenizer(), ROWS, text="text", label="stars")
    assert found.spans == (Span("<s> good film", False),)
    assert (found.label, found.label_index, found.learned) == ("high", 0, None)
    assert found.place == "line 1 of train.jsonl"


def test_a_pair_shows_both_texts_and_their_separator(tmp_path, monkeypatch) -> None:
    rows = [{**row, "other": "it is bad"} for row in ROWS]
    found = preview(tmp_path, monkeypatch, word_tokenizer(), rows, text=["text", "other"], label="stars")
    assert found.spans[0].text == "<s> good film</s> it is bad</s>"


def test_a_number_is_shown_as_it_is(tmp_path, monkeypatch) -> None:
    rows = [{"text": "good film", "stars": 4.5}, {"text": "bad film", "stars": 1.0}] * 3
    found = preview(
        tmp_path, monkeypatch, word_tokenizer(), rows, text="text", label="stars", type="regression"
    )
    assert (found.label, found.label_index) == (4.5, None)
