"""Reading, checking, carving and encoding the data of a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from search_spaces.errors import InvalidInputError
from tests.support.texts import same_splits
from trials.data.task_data import load_task
from trials.tasks.specs import ModelSpec, TaskSpec


@pytest.fixture
def bert(tiny_model: Callable[[str], Path]) -> ModelSpec:
    return ModelSpec(name=str(tiny_model("bert")))


def reviews_task(folder: Path, **changes: object) -> TaskSpec:
    given = {"train": str(folder / "train.tsv"), "text": "sentence", "label": "label", **changes}
    return TaskSpec(**given)


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_file_format_reads_the_same(ending, reviews, bert, tmp_path):
    frame = pd.read_csv(reviews / "train.tsv", sep="\t")
    path = tmp_path / f"train.{ending}"
    match ending:
        case "csv" | "tsv":
            frame.to_csv(path, sep="," if ending == "csv" else "\t", index=False)
        case "json" | "jsonl":
            frame.to_json(path, orient="records", lines=True)
        case _:
            frame.to_parquet(path)
    data = load_task(reviews_task(reviews, train=str(path), validation=str(reviews / "validation.tsv")), bert)
    same = load_task(reviews_task(reviews, validation=str(reviews / "validation.tsv")), bert)
    assert data.splits["train"] == same.splits["train"]


def test_missing_splits_are_carved_out_of_train_without_overlap(reviews, bert):
    data = load_task(reviews_task(reviews, carve=0.1), bert)
    sizes = {name: len(rows) for name, rows in data.splits.items()}
    assert sizes == {"train": 192, "validation": 24, "test": 24}
    assert "train" not in data.sources
    again = load_task(reviews_task(reviews, carve=0.1, split_seed=1), bert)
    assert again.splits["test"] != data.splits["test"]


def test_given_splits_are_read_whole_and_can_be_read_again(reviews, bert):
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    data = load_task(reviews_task(reviews, **named), bert)
    assert [len(data.splits[name]) for name in ("train", "validation", "test")] == [240, 120, 120]
    assert set(data.sources) == {"train", "validation", "test"}
    assert data.classes == (0, 1)


def test_rows_without_text_are_left_out_and_said(reviews, bert, write_jsonl):
    rows = [{"sentence": f"film no. {i}", "label": i % 2} for i in range(40)]
    path = write_jsonl("train.jsonl", [*rows, {"sentence": None, "label": 1}])
    data = load_task(reviews_task(reviews, train=str(path)), bert)
    assert any("1 row without text" in note for note in data.notes)


def problem(task: TaskSpec, model: ModelSpec) -> str:
    with pytest.raises(InvalidInputError) as caught:
        load_task(task, model)
    return str(caught.value)


def test_a_missing_column_is_named_with_a_suggestion(reviews, bert):
    message = problem(reviews_task(reviews, text="sentense"), bert)
    assert message.startswith("task.text: train has no column 'sentense'")
    assert "Did you mean 'sentence'?" in message


def test_every_missing_column_is_reported_at_once(reviews, bert):
    message = problem(reviews_task(reviews, text="words", label="class"), bert)
    assert "task.text" in message
    assert "task.label" in message


def test_a_label_unseen_in_training(reviews, bert, write_jsonl):
    path = write_jsonl("validation.jsonl", [{"sentence": "good", "label": 7}])
    message = problem(reviews_task(reviews, validation=str(path)), bert)
    assert "task.label: validation has labels that train does not have: 7" in message


def test_a_missing_label(reviews, bert, write_jsonl):
    path = write_jsonl("train.jsonl", [{"sentence": "good", "label": 1}, {"sentence": "bad", "label": None}])
    assert "1 row of train has no value in 'label'" in problem(reviews_task(reviews, train=str(path)), bert)


def test_an_empty_split(reviews, bert, tmp_path):
    (tmp_path / "test.tsv").write_text("sentence\tlabel\n")
    assert "task.test" in problem(reviews_task(reviews, test=str(tmp_path / "test.tsv")), bert)


def test_too_few_rows_to_carve(reviews, bert, write_jsonl):
    path = write_jsonl(
        "train.jsonl",
        [{"sentence": word, "label": int(word == "good")} for word in ("good", "bad", "dull")],
    )
    assert "too few to carve" in problem(reviews_task(reviews, train=str(path)), bert)


def test_regression_needs_numbers(reviews, bert, write_jsonl):
    path = write_jsonl("train.jsonl", [{"sentence": "good", "label": "high"}] * 40)
    message = problem(reviews_task(reviews, type="regression", train=str(path)), bert)
    assert "'high' in 'label', which is not a number" in message


def test_a_file_that_is_not_what_its_ending_says(reviews, bert, tmp_path):
    (tmp_path / "train.parquet").write_text("not parquet")
    message = problem(reviews_task(reviews, train=str(tmp_path / "train.parquet")), bert)
    assert message.startswith("task.train: cannot read")


def test_nothing_to_learn_within_max_length(bert, write_jsonl, reviews):
    path = write_jsonl("train.jsonl", [{"p": "the film was a story", "c": "good"}] * 40)
    task = TaskSpec(
        type="causal-lm", **same_splits(path), prompt="p", completion="c", chat_template="none", max_length=4
    )
    assert "every example is dropped: no target tokens within" in problem(task, bert)


STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m.role }} : {{ m.content }} | {% endfor %}"
)


def chats(refused: int) -> list[dict[str, object]]:
    turns = [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "was good"}]
    system = [{"role": "system", "content": "the end"}]
    return [{"m": [*system, *turns] if i < refused else turns} for i in range(40)]


def test_rows_that_the_chat_template_refuses_are_named_or_dropped(bert, write_jsonl):
    columns = {"type": "causal-lm", "messages": "m", "chat_template": STRICT}
    columns |= same_splits(write_jsonl("train.jsonl", chats(refused=4)))
    message = problem(TaskSpec(**columns), bert)
    assert "task.train: 4 of 40 rows cannot be used: the chat template refuses it: no system" in message
    assert "(roles: system, user, assistant), in 4 rows, first line 1 of train.jsonl" in message
    assert "merge_system: true" in message
    assert "bad_rows: drop" in message
    data = load_task(TaskSpec(**columns, bad_rows="drop"), bert)
    assert len(data.splits["train"]) == len(data.raw["train"]) == 36
    assert any("4 of 40 rows cannot be used" in warning for warning in data.warnings)
    assert len(load_task(TaskSpec(**columns, merge_system=True), bert).splits["train"]) == 40


def test_a_template_that_refuses_every_row(bert, write_jsonl):
    columns = {"type": "causal-lm", "messages": "m", "chat_template": STRICT, "bad_rows": "drop"}
    path = write_jsonl("train.jsonl", chats(refused=40))
    assert "40 of 40 rows cannot be used" in problem(TaskSpec(**columns, **same_splits(path)), bert)


def test_a_model_without_tokenizer(reviews, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert problem(reviews_task(reviews), ModelSpec(name=str(tmp_path))).startswith("model:")


# --- sequence lengths


def test_a_cut_keeps_the_special_tokens_and_is_what_the_tokenizer_gives(reviews, bert):
    task = reviews_task(reviews)
    data = load_task(task, bert)
    cut = data.at_length(task, 8)
    assert cut.splits == load_task(reviews_task(reviews, max_length=8), bert).splits
    longer = [i for i, e in enumerate(data.splits["train"]) if len(e["input_ids"]) > 8]
    assert longer
    start, end = data.tokenizer.cls_token_id, data.tokenizer.sep_token_id
    for index in longer:
        ids = cut.splits["train"][index]["input_ids"]
        assert (len(ids), ids[0], ids[-1]) == (8, start, end)
    assert max(cut.lengths("validation")) == 8
    assert max(data.lengths("validation")) > 8  # the whole is left as it was


def test_each_length_is_encoded_once_and_one_that_cuts_nothing_not_at_all(reviews, bert):
    task = reviews_task(reviews)
    data = load_task(task, bert)
    assert data.at_length(task, 8) is data.at_length(task, 8)
    assert data.at_length(task, None) is data
    assert data.at_length(task, task.max_length) is data


def test_of_a_language_model_only_the_training_split_is_cut(bert, write_jsonl):
    rows = [{"p": "the film was", "c": "good and bright"}, {"p": "the end of a story was", "c": "sad"}] * 20
    columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
    task = TaskSpec(type="causal-lm", **same_splits(write_jsonl("c.jsonl", rows)), **columns)
    data = load_task(task, bert)
    cut = data.at_length(task, 6)
    assert cut.splits["validation"] == data.splits["validation"]
    assert cut.splits["test"] == data.splits["test"]
    assert max(cut.lengths("train")) == 6
    # Examples without target tokens within the length are dropped from training, rows included.
    assert 0 < len(cut.splits["train"]) < len(data.splits["train"])
    assert len(cut.raw["train"]) == len(cut.splits["train"])
    assert set(cut.raw["train"]["c"]) == {"good and bright"}
    with pytest.raises(InvalidInputError, match="target tokens within 3 tokens"):
        data.at_length(task, 3)
