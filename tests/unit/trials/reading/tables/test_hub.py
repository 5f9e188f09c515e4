"""Data that the library `datasets` reads, and a cache folder that is not writable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import constants

from tests.import_graph import ROOT
from trials.reading.tables.errors import DataError
from trials.reading.tables.hub import is_hub_copy, is_saved, read_split, split_names

UNWRITABLE = "/dev/null/cache"
"""A folder that even the superuser cannot make."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\na,0\nb,1\n")
    return tmp_path / "data"


def test_a_cache_that_is_not_writable_is_named_and_a_temporary_one_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(UNWRITABLE))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{UNWRITABLE}/hub")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert split_names({"path": str(folder)}) == ["train"]
    rows = read_split({"path": str(folder), "name": None, "split": "train"})
    assert list(rows["text"]) == ["a", "b"]
    assert f"the cache of datasets, '{UNWRITABLE}', is not writable" in rows.notes[0]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # nothing temporary is left
    assert f"{UNWRITABLE}/hub" == constants.HF_HUB_CACHE


def test_local_files_need_no_cache_and_only_the_package(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "trials" / "reading", tmp_path / "reading")  # as an exported run has it
    code = (
        "import sys; from pathlib import Path; from reading.splits import read_source\n"
        f"print(len(read_source({{'file': 'train.csv'}}, Path({str(folder)!r}))), 'datasets' in sys.modules)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "HOME": UNWRITABLE}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ran.stdout.strip() == "2 False", ran.stderr


def test_images_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip(
        "PIL", reason="the library datasets writes images with Pillow, an optional dependency"
    )
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    image = {"bytes": np.zeros(3, np.uint8).tobytes(), "path": None}
    datasets.Dataset.from_dict({"text": ["a"], "image": [image]}, features=features).save_to_disk(
        tmp_path / "x"
    )
    assert is_saved(tmp_path / "x")
    assert read_split({"disk": str(tmp_path / "x"), "split": "train"}).column_names == ["text"]


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match=r"has no split 'test'\. Use one of: train"):
        read_split({"disk": str(tmp_path / "x"), "split": "test"})
    (tmp_path / "x" / "train" / "state.json").unlink()
    with pytest.raises(DataError, match="cannot read"):
        read_split({"disk": str(tmp_path / "x"), "split": "train"})


def test_a_readme_without_files_of_splits_makes_no_copy_of_a_repository(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\nconfigs:\n")
    assert not is_hub_copy(folder)
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: x\n---\n")
    assert is_hub_copy(folder)
    assert not is_saved(folder)


def test_the_names_of_the_classes_of_a_data_set_are_kept(tmp_path):
    label = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    table.save_to_disk(str(tmp_path / "saved"))
    rows = read_split({"disk": str(tmp_path / "saved"), "split": "train"})
    assert rows["label"] == [0, 1]
    assert rows.select([1]).with_column("label", [1]).class_names == {"label": ("neg", "pos")}
