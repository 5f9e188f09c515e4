"""Fingerprints of data, tokenizers and models: what leaves them as they are, and what changes them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer

from trials.data.fingerprint import hub_commit, model_fingerprint
from trials.data.task_data import load_task
from trials.reading.base_model import weights
from trials.reading.base_model.fingerprint import model_changes, tokenizer_fingerprint
from trials.reading.base_model.weights import weights_digest
from trials.reading.fingerprint import split_changes, split_fingerprint
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ModelSpec, TaskSpec

CLASSIFICATION = TaskSpec(text="text", label="label")
CHAT = TaskSpec(type="causal-lm", messages="messages")


LABELED = CLASSIFICATION.model_dump()
PLAIN = CHAT.model_dump()


def changes(before: dict[str, Any], now: dict[str, Any], task: dict[str, Any] = LABELED) -> list[str]:
    first, second = (split_fingerprint(Rows(rows), list(rows), task) for rows in (before, now))
    return split_changes("train", json.loads(json.dumps(first)), second)


TABLE = {"text": ["one\ntwo", "three", "four"], "label": [0, 1, 0]}


@pytest.mark.parametrize(
    "same",
    [
        {"text": ["one\r\ntwo", "three", "four"], "label": [0, 1, 0]},
        {"text": TABLE["text"], "label": [0.0, 1.0, 0.0]},
        {"text": TABLE["text"], "label": list(np.array([0, 1, 0]))},
        {"text": TABLE["text"], "label": ["0", "1", "0"]},
        {"text": TABLE["text"], "label": TABLE["label"], "unused": [7, 8, 9]},
    ],
    ids=["line ends", "floats", "numpy", "texts", "an unused column"],
)
def test_the_same_rows_of_another_file_or_machine_are_the_same(same):
    first = split_fingerprint(Rows(TABLE), ["text", "label"], LABELED)
    assert first == split_fingerprint(Rows(same), ["text", "label"], LABELED)


def test_the_order_of_keys_and_empty_keys_of_messages_do_not_count():
    one = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    typed = [{"content": m["content"], "tool_calls": None, "role": m["role"]} for m in one]
    assert changes({"messages": [one]}, {"messages": [typed]}, PLAIN) == []
    assert changes({"messages": [one]}, {"messages": [one[:1]]}, PLAIN) != []


def test_each_change_is_named():
    fewer = {"text": TABLE["text"][:2], "label": ["a", "b"]}
    assert changes(TABLE, fewer) == [
        "train has 2 rows and had 3",
        "the labels of train are {a, b} and were {0, 1}",
    ]
    swapped = {"text": ["three", "one\ntwo", "four"], "label": [1, 0, 0]}
    assert changes(TABLE, swapped) == ["the rows of train are in another order"]
    edited = {"text": ["one two", "three", "four"], "label": [0, 1, 0]}
    assert changes(TABLE, edited) == ["the values of 'text' in train changed"]
    relabeled = {"text": TABLE["text"], "label": [1, 1, 0]}
    assert changes(TABLE, relabeled) == ["the values of 'label' in train changed"]
    assert changes(TABLE, TABLE) == []


def test_targets_are_the_same_as_text_and_as_numbers_or_truth_values():
    regression = TaskSpec(type="regression", text="text", label="label").model_dump()
    prices, texts = {"text": ["a", "b"], "label": [1.5, 2]}, {"text": ["a", "b"], "label": ["1.50", "2"]}
    assert changes(prices, texts, regression) == []
    assert changes(prices, {**prices, "label": [1.5, 3]}, regression) != []
    truth, named = (
        {"text": ["a", "b"], "label": [True, False]},
        {"text": ["a", "b"], "label": ["True", "FALSE"]},
    )
    assert changes(truth, named) == []


def test_values_that_run_into_each_other_differ():
    assert changes({"a": ["x\ny"], "b": ["z"]}, {"a": ["x"], "b": ["y\nz"]}, PLAIN) != []
    assert changes({"a": ["1"]}, {"a": [1]}, PLAIN) != []
    assert changes({"a": [None]}, {"a": ["null"]}, PLAIN) != []
    assert changes({"a": [True]}, {"a": [1]}, PLAIN) != []


def test_a_fingerprint_of_data_depends_on_rows_and_not_on_the_file(reviews, tiny_model, tmp_path):
    model = ModelSpec(name=str(tiny_model("bert")))
    task = TaskSpec(train=str(reviews / "train.tsv"), text="sentence", label="label")
    windows = tmp_path / "moved.tsv"
    windows.write_bytes((reviews / "train.tsv").read_bytes().replace(b"\n", b"\r\n"))
    moved = load_task(task.model_copy(update={"train": str(windows)}), model)
    assert load_task(task, model).fingerprint == moved.fingerprint
    other = load_task(task.model_copy(update={"split_seed": 1}), model)
    assert moved.fingerprint["test"] != other.fingerprint["test"]


def test_data_that_are_written_again_are_read_again(reviews, tiny_model, tmp_path):
    path = tmp_path / "train.tsv"
    lines = (reviews / "train.tsv").read_text().splitlines(keepends=True)
    path.write_text("".join(lines))
    model, task = (
        ModelSpec(name=str(tiny_model("bert"))),
        TaskSpec(train=str(path), text="sentence", label="label"),
    )
    first = load_task(task, model)
    assert load_task(task, model) is first
    path.write_text("".join(lines[:121]))
    assert sum(split["rows"] for split in load_task(task, model).fingerprint.values()) == 120


def tensors(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {f"layer.{i}.weight": rng.standard_normal((64, 96)).astype(np.float32) for i in range(4)}


def digest(folder: Path, *files: dict[str, Any], metadata: dict[str, str] | None = None) -> str | None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, content in enumerate(files):
        save_file(content, folder / f"model-{number}.safetensors", metadata=metadata)
    return weights_digest(folder)


@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_count_wherever_they_are_stored(is_whole, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_WHOLE", 2**30 if is_whole else 0)
    whole = tensors()
    one = digest(tmp_path / "a", whole, metadata={"format": "pt"})
    parts = [dict(list(whole.items())[:2]), dict(list(whole.items())[2:])]
    assert one == digest(tmp_path / "b", *parts)
    for name, values in whole.items():
        trained = {**whole, name: values * np.float32(1.001)}
        assert one != digest(tmp_path / "c", trained), name
    assert one != digest(tmp_path / "d", {**whole, "layer.0.weight": whole["layer.0.weight"].T.copy()})
    assert one != digest(tmp_path / "e", dict(list(whole.items())[:3]))
    assert digest(tmp_path / "f") is None


def test_large_weights_are_sampled_in_every_tensor(tmp_path, monkeypatch):
    big = {"a": np.zeros(400_000, np.float32), "b": np.zeros(100, np.float32)}
    monkeypatch.setattr(weights, "_WHOLE", 0)
    one = digest(tmp_path / "w", big)
    for place in (0, 200_000, 399_999):
        changed = big["a"].copy()
        changed[place] = 1
        assert one != digest(tmp_path / "w", {**big, "a": changed}), place
    began = time.perf_counter()
    weights_digest(tmp_path / "w")
    assert time.perf_counter() - began < 1


@pytest.fixture
def model(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("bert"), tmp_path / "model"))


def fingerprint(folder: Path, task: TaskSpec = CLASSIFICATION) -> dict[str, Any]:
    return model_fingerprint(ModelSpec(name=str(folder)), AutoTokenizer.from_pretrained(folder), task)


def test_a_model_that_was_saved_again_elsewhere_is_the_same(model, tmp_path):
    before = fingerprint(model)
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config = {**dict(reversed(config.items())), "transformers_version": "9.9", "_name_or_path": "x"}
    (copy / "config.json").write_text(json.dumps(config))
    AutoTokenizer.from_pretrained(copy).save_pretrained(copy)
    assert model_changes(before, fingerprint(copy)) == []


def test_changes_of_a_model_are_named(model):
    before = fingerprint(model)
    weights_file = next(model.glob("*.safetensors"))
    values = load_file(weights_file)
    name = next(name for name in values if name.endswith("weight"))
    save_file({**values, name: values[name] + np.float32(0.01)}, weights_file, metadata={"format": "pt"})
    assert model_changes(before, fingerprint(model)) == ["the weights changed"]
    save_file(values, weights_file, metadata={"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert model_changes(before, fingerprint(model)) == ["the configuration changed (config.json)"]


def test_changes_of_a_tokenizer_are_named(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    before = tokenizer_fingerprint(tokenizer, CHAT.type)
    plain = tokenizer_fingerprint(tokenizer, CLASSIFICATION.type)

    def found(task: TaskSpec = CHAT) -> list[str]:
        now = tokenizer_fingerprint(tokenizer, task.type)
        return model_changes({"tokenizer": before if task is CHAT else plain}, {"tokenizer": now})

    tokenizer("a text", truncation=True, max_length=2)
    assert found() == []  # how it was used last is not part of it
    tokenizer.chat_template = "{{ messages }}"
    assert found() == ["the tokenizer's chat template changed"]
    assert found(CLASSIFICATION) == []
    tokenizer.chat_template = None
    tokenizer.add_tokens(["<new>"])
    assert found(CLASSIFICATION)[0].startswith("the tokenizer's vocabulary has ")


def test_a_tokenizer_that_keeps_its_vocabulary_and_splits_in_another_way_is_another_one(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    before = {"tokenizer": tokenizer_fingerprint(tokenizer, CLASSIFICATION.type)}
    from tokenizers.normalizers import Replace

    tokenizer.backend_tokenizer.normalizer = Replace("e", "a")
    now = {"tokenizer": tokenizer_fingerprint(tokenizer, CLASSIFICATION.type)}
    assert model_changes(before, now) == ["the tokenizer splits texts in another way"]


def test_the_commit_of_a_hub_model_is_that_of_the_cached_files(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--someone--tiny"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    for branch in ("main", "other"):
        (folder / "refs" / branch).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub_commit(ModelSpec(name="someone/tiny")) == commit
    assert hub_commit(ModelSpec(name="someone/tiny", revision="other")) == commit
    assert hub_commit(ModelSpec(name="someone/tiny", revision="missing")) is None
    assert hub_commit(ModelSpec(name="someone/else")) is None
    assert hub_commit(ModelSpec(name=str(tmp_path))) is None


def test_models_of_the_hub_are_known_by_their_commit():
    tokenizer = {"vocabulary": "v", "size": 1, "special": {}, "splitting": "s"}
    one, other = ({"tokenizer": tokenizer, "commit": letter * 40} for letter in "ab")
    assert model_changes(one, other) == ["the commit is bbbbbbbbbbbb and was aaaaaaaaaaaa"]
    assert model_changes(one, {"tokenizer": tokenizer}) == []
