"""Forms of data for language models that `autotune init` recognizes, and the sweep file that it writes for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotune.scaffold.sweep_file import write_scaffold
from autotune.sweep.sweep_file import load_sweep
from search_spaces.errors import InvalidInputError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def alpaca(i: int, **keys: Any) -> dict[str, Any]:
    return {
        "instruction": "Add the numbers.",
        "input": f"{i} and {i}" if i % 2 else "",
        "output": str(2 * i),
        **keys,
    }


def sharegpt(i: int, **keys: Any) -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": f"Say {i}"}, {"from": "gpt", "value": str(i)}],
        **keys,
    }


TOOLS = [{"name": "rain", "description": "Will it rain?"}]
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Alpaca": (alpaca, {"prompt": ("instruction", "input"), "completion": "output"}),
    "Alpaca without inputs": (
        lambda i: {**alpaca(i), "input": ""},
        {"prompt": "instruction", "completion": "output"},
    ),
    "Alpaca with system and history": (
        lambda i: alpaca(i, system="Be brief.", history=[["1 and 1", "2"]]),
        {
            "prompt": ("instruction", "input"),
            "completion": "output",
            "system": "system",
            "history": "history",
        },
    ),
    "Alpaca preference": (
        lambda i: {"instruction": f"Say {i}", "input": "", "chosen": "yes, 1", "rejected": "no"},
        {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
    ),
    "ShareGPT": (sharegpt, {"messages": "conversations"}),
    "ShareGPT with tools as JSON": (
        lambda i: sharegpt(i, tools=json.dumps(TOOLS), id=i),
        {"messages": "conversations", "tools": "tools"},
    ),
    "ShareGPT without any tool": (lambda i: sharegpt(i, tools="[]"), {"messages": "conversations"}),
    "ShareGPT preference": (
        lambda i: {
            "conversations": [{"from": "human", "value": f"Say {i}"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    ),
    "OpenAI with tools": (
        lambda i: {"messages": [user(f"Say {i}"), assistant(str(i))], "functions": TOOLS},
        {"messages": "messages", "tools": "functions"},
    ),
    "chats in a column of another name": (
        lambda i: {"name": f"no {i}", "talk": [user(f"Say {i}"), assistant(str(i))]},
        {"messages": "talk"},
    ),
    "conversational prompt and completion": (
        lambda i: {"prompt": [user(f"Say {i}")], "completion": [assistant(str(i))]},
        {"prompt": "prompt", "completion": "completion"},
    ),
    "conversational preference": (
        lambda i: {"prompt": [user(f"Say {i}")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "preference with an implicit prompt": (
        lambda i: {"chosen": [user("a"), assistant(f"{i}")], "rejected": [user("a"), assistant("b")]},
        {"chosen": "chosen", "rejected": "rejected"},
    ),
    "preference of texts": (
        lambda i: {"prompt": f"Say {i}", "chosen": f"the {i}", "rejected": "none"},
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "prompt and completion": (
        lambda i: {"prompt": f"the number {i} is", "completion": f"as good as {i + 1}"},
        {"prompt": "prompt", "completion": "completion"},
    ),
}
NAMES = ("text", "prompt", "completion", "messages", "system", "history", "tools", "chosen", "rejected")


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def task_of(model: str, data: Path, out: Path, kind: str = "causal-lm", asked: Any = None) -> dict[str, Any]:
    """Return the task's fields in the sweep file that `autotune init` writes."""
    scaffold = write_scaffold(model, [data], out, task=asked)
    assert any(f"task: {kind}" in note for note in scaffold.notes)
    task = load_sweep(out).task
    assert task.type == kind
    return {name: value for name in NAMES if (value := getattr(task, name))}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_recognized_and_written(form, model, tmp_path):
    row, expected = FORMS[form]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(60)))
    kind = "preference" if "chosen" in expected else "causal-lm"
    assert task_of(model, path, tmp_path / "sweep.yaml", kind) == expected
    if kind == "preference":  # on request, a language model learns the chosen answers
        assert task_of(model, path, tmp_path / "other.yaml", "causal-lm", "causal-lm") == expected


def test_how_columns_are_joined_stands_in_the_file(model, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([alpaca(i) for i in range(60)]))
    text = write_scaffold(model, [path], tmp_path / "sweep.yaml").text
    line = next(line for line in text.splitlines() if line.strip().startswith("prompt:"))
    assert "[instruction, input]" in line
    assert 'joined by a blank line; or a template such as "{instruction}\\n{input}"' in line


def test_data_without_pairs_are_refused_for_preference(model, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([alpaca(i) for i in range(60)]))
    with pytest.raises(InvalidInputError, match="has no columns chosen and rejected"):
        write_scaffold(model, [path], tmp_path / "sweep.yaml", task="preference")
