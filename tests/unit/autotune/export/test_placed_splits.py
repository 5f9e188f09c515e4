"""The data of an exported run: rows that were carved out are written beside its script, and read as in the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from autotune.export.run_folder import _place_split
from trials.data.task_data import load_task
from trials.reading.splits import read_source
from trials.tasks.specs import ModelSpec, TaskSpec


def test_a_carved_split_has_the_values_of_the_search_without_columns_that_no_task_reads(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    texts = [["007", "1.50", "a\u2028b", 'so "it" is\r'][i % 4] + f" {i}" for i in range(40)]
    table = {"text": texts, "label": [i % 2 for i in range(40)], "image": [b"\x89PNG"] * 40}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "data [1].parquet")
    (tmp_path / "test.csv").write_text("text,label\n007,1\n1.50,0\n")
    task = TaskSpec(
        train=str(tmp_path / "data [1].parquet"), test=str(tmp_path / "test.csv"), text="text", label="label"
    )
    data = load_task(task, ModelSpec(name=str(tiny_model("bert"))))
    for name in ("train", "validation", "test"):
        source = _place_split(data, name, tmp_path, task)
        assert [*read_source(source, tmp_path).only(["text", "label"])] == [
            *data.raw[name].only(["text", "label"])
        ]
        assert ("data" in Path(source["file"]).parts) == (name != "test")
    assert list(data.raw["test"]["text"]) == ["007", "1.50"]
