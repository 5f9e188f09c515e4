"""Notes on prompts: unused columns, and prompts with many completions."""

from __future__ import annotations

from typing import Any

import pytest

from trials.data.notes import Notes
from trials.data.prompts import note_prompts, unused_texts
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

SUMS = [
    {"instruction": "Add the two numbers.", "input": f"{i} and {2 * i + 1}", "output": str(3 * i + 1)}
    for i in range(90)
]


def notes_of(rows: list[dict[str, Any]], **task: Any) -> Notes:
    notes = Notes()
    note_prompts(Rows.of(rows), TaskSpec(type="causal-lm", **task), notes)
    return notes


def test_a_dropped_column_is_named_and_the_prompt_that_lacks_it_is_a_warning():
    notes = notes_of(SUMS, prompt="instruction", completion="output")
    assert notes.facts == ["columns with text that the task does not use: 'input'"]
    assert notes.warnings == [
        "train: 1 prompt has different completions, up to 90, in 90 of 90 rows, so that the prompt does not tell "
        "which is right; does the prompt lack 'input'?"
    ]


@pytest.mark.parametrize("prompt", [["instruction", "input"], "{instruction}\n{input}"])
def test_a_prompt_of_both_columns_is_no_warning(prompt):
    notes = notes_of(SUMS, prompt=prompt, completion="output")
    assert notes.warnings == []
    assert not any("does not use" in fact for fact in notes.facts)


def test_how_a_list_of_columns_is_joined_is_said():
    notes = notes_of(SUMS, prompt=["instruction", "input"], completion="output")
    assert any("a blank line joins the texts of 'instruction', 'input'" in fact for fact in notes.facts)


def test_equal_rows_are_no_ambiguity_and_a_few_ambiguous_ones_are_a_fact():
    rows = [{"p": f"question no. {i}", "c": "yes"} for i in range(100)]
    assert notes_of(rows + rows, prompt="p", completion="c").facts == []
    notes = notes_of([*rows, {"p": "question no. 0", "c": "no"}], prompt="p", completion="c")
    assert notes.warnings == []
    assert "1 prompt has different completions, up to 2, in 2 of 101 rows" in notes.facts[0]


def test_chats_are_compared_up_to_their_last_answer():
    def chat(question: str, answer: str) -> dict[str, Any]:
        return {"m": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    notes = notes_of([chat("a", "b"), chat("a", "c"), chat("d", "e")], messages="m")
    assert "1 prompt has different completions, up to 2, in 2 of 3 rows" in notes.warnings[0]


def test_codes_and_numbers_are_no_texts():
    rows = Rows.of(
        [{"text": "a b", "id": "x1", "n": 3, "note": "see here", "tools": [{"name": "f"}], "empty": None}] * 4
    )
    assert unused_texts(rows, ["text"]) == ["note", "tools"]
