"""Values of tables of Arrow: mappings that all have the keys of all of them, and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, Value

from trials.reading.forms import Chat, read_example
from trials.reading.tables.files import read_file
from trials.reading.tables.hub import read_split
from trials.reading.tables.rows import Rows


def chat(name: str, **arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done"},
        {"role": "assistant", "content": "Done."},
    ]
    return {"messages": turns}


ROWS = [chat("walk", far=3), chat("talk", loud=True)]


def read(rows: Rows) -> list[Any]:
    examples = [read_example(row, {"messages": "messages"}, as_chat=True) for row in rows]
    return [example.messages for example in examples if isinstance(example, Chat)]


def test_a_call_keeps_its_own_arguments_only(tmp_path: Path) -> None:
    expected = read(Rows.of(ROWS))
    table = Dataset.from_list(ROWS)
    assert table[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"far": 3, "loud": None}
    table.to_parquet(str(tmp_path / "train.parquet"))
    assert read(read_file(tmp_path / "train.parquet")) == expected
    table.save_to_disk(str(tmp_path / "saved"))
    assert read(read_split({"disk": str(tmp_path / "saved"), "split": "train"})) == expected


def test_bytes_are_text_where_all_of_a_column_are_utf_8(tmp_path: Path) -> None:
    images = [b"\x89PNG", b"a", None]
    table = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["é".encode(), b"B", None], "image": images})
    table = table.cast_column("label", Value("binary")).cast_column("image", Value("binary"))
    table.to_parquet(str(tmp_path / "train.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    for rows, name in (
        (read_file(tmp_path / "train.parquet"), "train.parquet"),
        (read_split({"disk": str(tmp_path / "saved"), "split": "train"}), "train"),
    ):
        assert list(rows["label"]) == ["é", "B", None]
        assert list(rows["image"]) == images
        assert rows.notes == (f"{name}: bytes in column 'label' are read as text in UTF-8",)
