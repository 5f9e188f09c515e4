"""Each data form as an example with its loss mask, against what SFTTrainer prepares from the same rows.

The expectations of forms that TRL does not read, Alpaca and LLaMA-Factory's ShareGPT with tools, are computed by hand
from LLaMA-Factory's convention: every assistant turn and every call is learned with the end of its turn.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_tokenizers import chat_tokenizer, marked_text
from trials.kinds.encoding import encode
from trials.reading.encoding import IGNORED

trl = pytest.importorskip("trl", reason="SFTTrainer prepares the expected examples")
TEMPLATE = (Path(trl.__file__).parent / "chat_templates" / "qwen3_training.jinja").read_text(encoding="utf-8")
USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "messages": ({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, {"messages": "messages"}),
    "ShareGPT": (
        {"conversations": [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "hello"}]},
        {"messages": "conversations"},
    ),
    "conversational prompt and completion": (
        {"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT]},
        {"prompt": "prompt", "completion": "completion"},
    ),
    "prompt and completion": (
        {"prompt": "hi there,", "completion": " hello"},
        {"prompt": "prompt", "completion": "completion", "chat_template": "none"},
    ),
    "plain text": ({"text": "hello there"}, {"text": ("text",)}),
}


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(chat_tokenizer(TEMPLATE)), **size))


def of_trl(row: dict[str, Any], model: Any, folder: Path) -> tuple[list[int], list[int]]:
    """Return the token ids and labels of a row that SFTTrainer prepares."""
    from datasets import Dataset

    row = trl.data_utils.maybe_convert_to_chatml(copy.deepcopy(row))
    arguments = trl.SFTConfig(
        output_dir=str(folder),
        max_length=None,
        assistant_only_loss="messages" in row,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    trainer = trl.SFTTrainer(
        model, arguments, train_dataset=Dataset.from_list([row]), processing_class=chat_tokenizer(TEMPLATE)
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    return batch["input_ids"][0].tolist(), batch["labels"][0].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_a_form_gives_the_labels_of_trl(form, model, tmp_path):
    row, fields = FORMS[form]
    task = {"type": "causal-lm", "text": (), "max_length": 1_000, **fields}
    encoded = encode(row, task, chat_tokenizer(TEMPLATE), None)
    assert (encoded["input_ids"], encoded["labels"]) == of_trl(row, model, tmp_path)
    assert IGNORED in encoded["labels"] or form == "plain text"


PLAIN = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text(encoding="utf-8")
SYSTEM = "<|im_start|>system\nBe brief.<|im_end|>\n"


def learned(row: dict[str, Any], **fields: Any) -> str:
    task = {"type": "causal-lm", "text": (), "max_length": 10_000, **fields}
    return marked_text(encode(row, task, chat_tokenizer(PLAIN), None), chat_tokenizer(PLAIN))


def test_alpaca_as_llama_factory_formats_it():
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3", "s": "Be brief.", "h": [["1?", "1."]]}
    text = learned(row, prompt="{instruction}\n{input}", completion="output", system="s", history="h")
    assert text == (
        SYSTEM + "<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n[[1.<|im_end|>\n]]"
        "<|im_start|>user\nAdd.\n1 and 2<|im_end|>\n<|im_start|>assistant\n[[3<|im_end|>\n]]"
    )


def test_sharegpt_with_tools_as_llama_factory_formats_it():
    turns = [
        ("system", "Be brief."),
        ("human", "Rain?"),
        ("function_call", '{"name": "rain", "arguments": {"town": "Bonn"}}'),
        ("observation", "no"),
        ("gpt", "No rain."),
    ]
    row = {
        "c": [{"from": source, "value": value} for source, value in turns],
        "t": '[{"name": "rain", "parameters": {"type": "object"}}]',
    }
    text = learned(row, messages="c", tools="t")
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert '{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}' in text
    assert text.endswith(
        "<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n"
        '[[<tool_call>\n{"name": "rain", "arguments": {"town": "Bonn"}}\n</tool_call><|im_end|>\n]]'
        "<|im_start|>user\n<tool_response>\nno\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n[[No rain.<|im_end|>\n]]"
    )


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"i": "hi", "c": "hello", "r": "no"}, {"prompt": "i"}),
        ({"i": [USER], "c": [ASSISTANT], "r": [{**ASSISTANT, "content": "no"}]}, {"prompt": "i"}),
        ({"c": [USER, ASSISTANT], "r": [USER, {**ASSISTANT, "content": "no"}]}, {}),
        ({"i": [{"from": "human", "value": "hi"}], "c": ASSISTANT, "r": ASSISTANT}, {"messages": "i"}),
    ],
)
def test_of_a_preference_pair_the_chosen_answer_is_learned(row, fields):
    text = learned(row, **fields, chosen="c", rejected="r")
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[[hello<|im_end|>\n]]")
