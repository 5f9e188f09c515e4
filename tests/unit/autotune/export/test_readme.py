"""The README of an exported run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autotune.export.readme import further_note, layers_note
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep


def test_a_run_says_that_it_does_not_score_further_data(tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "one"}\n')
    task = {"type": "causal-lm", "train": str(data), "text": "text"}
    sets = [{"name": name, "data": str(data), "metric": "perplexity"} for name in ("general", "safety")]
    given = {"name": "s", "model": "gpt2", "space": "lora", "objectives": ["eval_loss"]}
    plain, further = (
        parse_sweep({**given, "budget": {"trials": 1}, "task": {**task, "also": also}}) for also in ([], sets)
    )
    assert further_note(plain) == ""
    assert "(general, safety); `train.py` does not" in further_note(further)


def truncated_sweep(task_type: str, base: Path, data: Path) -> Sweep:
    data.write_text('{"text": "one", "label": 0}\n{"text": "two", "label": 1}\n')
    task: dict[str, Any] = {"type": task_type, "train": str(data), "text": "text"}
    if task_type == "sequence-classification":
        task["label"] = "label"
    model = {"name": str(base), "layers": "50%"}
    given = {
        "name": "s",
        "model": model,
        "space": "lora",
        "objectives": ["eval_loss"],
        "budget": {"trials": 1},
    }
    return parse_sweep({**given, "task": task})


@pytest.mark.parametrize("task_type", ["sequence-classification", "causal-lm"])
def test_the_code_of_the_readme_loads_an_adapter_on_a_truncated_model(
    tmp_path: Path, task_type: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base has a head for three classes, and the adapter one for two, where the task has a head."""
    import peft
    import transformers

    run, is_lm = tmp_path / "run", task_type == "causal-lm"
    auto = transformers.AutoModelForCausalLM if is_lm else transformers.AutoModelForSequenceClassification
    tiny = request.getfixturevalue("tiny_model")("llama" if is_lm else "bert")
    whole = auto.from_pretrained(tiny, **({} if is_lm else {"num_labels": 3}))
    whole.save_pretrained(run / "base")
    options = {} if is_lm else {"num_labels": 2, "ignore_mismatched_sizes": True}
    base = auto.from_pretrained(run / "base", num_hidden_layers=1, **options)
    kind = peft.TaskType.CAUSAL_LM if is_lm else peft.TaskType.SEQ_CLS
    peft.get_peft_model(base, peft.LoraConfig(task_type=kind)).save_pretrained(str(run / "adapter"))
    if not is_lm:
        base.config.save_pretrained(run / "adapter")
    sweep = truncated_sweep(task_type, run / "base", tmp_path / "texts.jsonl")
    entire = sweep.model_copy(update={"model": sweep.model.model_copy(update={"layers": None})})
    assert layers_note(entire, "./base", own_tuner=False) == ""
    note = layers_note(sweep, "./base", own_tuner=False)
    [code] = re.findall(r"```python\n(.*?)```", note, flags=re.DOTALL)
    monkeypatch.chdir(run)
    names: dict[str, Any] = {}
    exec(code, names)
    found = names["model"].config
    assert found.num_hidden_layers == 1
    assert is_lm or found.num_labels == 2
