"""What a limit of tokens cuts is counted, with the tokenizer, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trials.data.lengths import cut_note, sufficient_length
from trials.data.task_data import TaskData, load_task
from trials.reading.lengths import measured_cut
from trials.tasks.specs import DOCSTRINGS, POCKET, ModelSpec, TaskSpec

Load = Callable[..., TaskData]


@pytest.fixture
def load(tiny_model: Callable[[str], Path], write_jsonl: Callable[..., Path]) -> Load:
    def of(kind: str, rows: list[dict[str, Any]], **task: Any) -> TaskData:
        path = write_jsonl("train.jsonl", rows)
        return load_task(TaskSpec(train=str(path), carve=0.2, **task), ModelSpec(name=str(tiny_model(kind))))

    return of


def texts(words: Callable[[int], int]) -> list[dict[str, Any]]:
    """100 texts of as many words, all of them different; the tokenizer adds two tokens to each."""
    return [{"text": f"{i} " + "film " * (words(i) - 1), "label": i % 2} for i in range(100)]


LABELS = {"text": "text", "label": "label", "max_length": 20}


def test_cut_training_examples_are_a_warning(load):
    data = load("bert", texts(lambda i: 40), **LABELS)
    assert data.warnings == (
        "60 of 60 training examples are cut at 20 tokens (median 42, longest 42); max_length: 64 would cut at most "
        "2% of them",
    )
    assert "20 of 20 validation examples are cut at 20 tokens (median 42, longest 42)" in data.notes
    assert "20 of 20 test examples are cut at 20 tokens (median 42, longest 42)" in data.notes
    assert set(data.lengths("train")) == {20}


def test_the_embedded_data_are_cut_on_purpose():
    data = load_task(
        TaskSpec(dataset=DOCSTRINGS, text="text", label="label", max_length=8), ModelSpec(name=POCKET)
    )
    assert data.cuts["train"].share > 0.5
    assert any("training examples are cut at 8 tokens" in note for note in data.notes)
    assert not data.warnings


def test_a_single_cut_example_is_a_note_and_none_is_nothing(load):
    path_data = load("bert", texts(lambda i: 40 if i == 0 else 5), **LABELS)
    found = [note for note in path_data.notes if " cut at " in note]
    assert len(found) == 1
    assert found[0].startswith("1 of ")
    assert not path_data.warnings
    whole = load("bert", texts(lambda i: 18), **LABELS)
    assert not [note for note in (*whole.notes, *whole.warnings) if " cut at " in note]


def test_a_text_of_exactly_the_limit_is_whole(load):
    exact = load("bert", texts(lambda i: 18), **LABELS)
    assert exact.cuts["train"].count == 0
    longer = load("bert", texts(lambda i: 19), **LABELS)
    assert longer.cuts["train"].count == 60


def test_the_advice_does_not_exceed_what_the_model_reads(load):
    data = load("bert", texts(lambda i: 200), **LABELS)  # the tokenizer says 64
    assert data.warnings[0].endswith("; the model reads 64 tokens: raise max_length, or shorten the texts")
    data = load("bert", texts(lambda i: 200), **{**LABELS, "max_length": 64})
    assert data.warnings[0].endswith(
        "; the model reads no more than 64 tokens: shorten the texts, or choose another model"
    )


def test_a_language_model_that_loses_the_ends_of_its_answers_says_so(load):
    """Each row has 6 words of prompt and 8 target tokens with the one that ends the text; 4 of them are cut."""
    rows = [
        {"p": f"the film was a film {i} ", "c": "good and bright and warm and bright"} for i in range(100)
    ]
    lengths = load("llama", rows, type="causal-lm", prompt="p", completion="c", max_length=64)
    full = int(lengths.lengths("train").max())
    data = load("llama", rows, type="causal-lm", prompt="p", completion="c", max_length=full - 4)
    cut = data.cuts["train"]
    assert (cut.count, cut.shortened, cut.lost) == (60, 60, 240)
    words = "60 lose the end of what is learned, "
    assert f"60 of 60 training examples are cut at {full - 4} tokens" in data.warnings[0]
    assert f"{words}{100 * cut.lost / cut.targets:.2g} % of all target tokens" in data.warnings[0]
    whole = [example["labels"][-1] for example in lengths.splits["train"]]
    assert set(whole) == {lengths.tokenizer.eos_token_id}
    assert {example["labels"][-1] for example in data.splits["train"]} != set(whole)


def test_prompts_and_completions_of_an_encoder_decoder_are_named_apart(load):
    rows = [{"p": "film " * 40 + str(i), "c": "good film " * 10} for i in range(100)]
    columns = {"type": "seq2seq", "prompt": "p", "completion": "c"}
    data = load("t5", rows, **columns, max_length=20, max_target_length=8)
    prompts, completions = data.warnings
    assert prompts.startswith("60 of 60 training prompts are cut at 20 tokens (median ")
    assert completions.startswith("60 of 60 training completions are cut at 8 tokens, and lose ")
    assert completions.endswith(" % of all target tokens; raise max_target_length, or shorten them")
    only = load("t5", rows, **columns, max_length=64, max_target_length=8)
    assert only.warnings == (completions,)
    assert any(note.startswith("20 of 20 test completions are cut at 8 tokens") for note in only.notes)


def test_examples_that_are_dropped_count_as_cut(load):
    """A prompt that fills the limit leaves nothing to learn."""
    rows = [{"p": "film " * (30 if i < 50 else 3) + str(i), "c": "good"} for i in range(100)]
    data = load("llama", rows, type="causal-lm", prompt="p", completion="c", max_length=16)
    train = data.cuts["train"]
    assert len(train.lengths) == 60
    assert train.count == train.shortened == 60 - len(data.splits["train"]) > 0


def test_several_limits_are_one_note():
    cut = measured_cut(64, [(length, 0, 0) for length in (10, 20, 30, 40)])
    assert cut_note("sequence_length", cut, [64, 16, 32]) == (
        "sequence_length cuts training examples, of 4: 3 at 16 tokens, 1 at 32 tokens"
    )
    assert cut_note("sequence_length", cut, [64]) == ""
    assert cut_note("the ladder", cut, []) == ""


@pytest.mark.parametrize(("lengths", "enough"), [([5], 32), ([32] * 99 + [33], 32), ([32] * 9 + [33], 64)])
def test_a_sufficient_length_cuts_at_most_two_percent(lengths, enough):
    assert sufficient_length(np.array(lengths)) == enough
