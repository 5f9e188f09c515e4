"""`autotune init`: what it guesses from a data file and a model, and that the file it writes loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autotune.scaffold.inspection import ModelInspection, inspect_data, inspect_model
from autotune.scaffold.sweep_file import Scaffold, write_scaffold
from autotune.sweep.sweep_file import load_sweep
from search_spaces.errors import InvalidInputError

ROWS = 200
TEXTS = [f"the cat number {i} sat on the mat" for i in range(ROWS)]


def save(frame: pd.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".json":
            frame.to_json(path, orient="records")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path)
    return path


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return model_folder(tmp_path / "bert", "BertModel", "bert", 64)


def model_folder(folder: Path, architecture: str, kind: str, positions: int) -> str:
    folder.mkdir()
    config = {
        "architectures": [architecture],
        "model_type": kind,
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "max_position_embeddings": positions,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


CLASSES = {"label": ["pos", "no"] * (ROWS // 2)}
NUMBERS = {"score": [i / 7 for i in range(ROWS)]}
CHATS = {
    "messages": [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in TEXTS
    ]
}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": TEXTS, **CLASSES}, {"type": "sequence-classification", "text": ["text"], "label": "label"}),
        ({"text": TEXTS, **NUMBERS}, {"type": "regression", "text": ["text"], "label": "score"}),
        ({"text": TEXTS}, {"type": "causal-lm", "text": ["text"], "label": None}),
        (
            {"prompt": TEXTS, "completion": TEXTS[::-1]},
            {"type": "causal-lm", "used": ["prompt", "completion"], "text": []},
        ),
    ],
)
def test_the_task_follows_from_the_columns(
    tmp_path: Path, ending: str, columns: dict[str, Any], expected: dict[str, Any]
) -> None:
    look = inspect_data(save(pd.DataFrame(columns), tmp_path / f"data{ending}"))
    assert {name: getattr(look, name) for name in expected} == expected
    assert look.rows == ROWS
    assert look.notes


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
def test_chats(tmp_path: Path, ending: str) -> None:
    look = inspect_data(save(pd.DataFrame({"id": range(ROWS), **CHATS}), tmp_path / f"data{ending}"))
    assert (look.type, look.used, look.text) == ("causal-lm", ["messages"], [])
    assert look.words == 9


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # a pair by its customary names; identifiers and short strings are no text
        (
            {
                "id": range(ROWS),
                "premise": TEXTS,
                "hypothesis": TEXTS[::-1],
                "gold": ["e", "n", "c", "n"] * 50,
            },
            {"type": "sequence-classification", "text": ["premise", "hypothesis"], "label": "gold"},
        ),
        # the longest text is the text
        (
            {"title": TEXTS, "body": [t * 3 for t in TEXTS], "y": [0, 1] * 100},
            {"type": "sequence-classification", "text": ["body"], "label": "y"},
        ),
        # a label without a telling name: the last column of few values
        ({"kind": ["a", "b"] * 100, "review": TEXTS}, {"label": "kind", "text": ["review"]}),
        # whole numbers: few are classes, many are numbers
        ({"text": TEXTS, "stars": [1, 2, 3, 4, 5] * 40}, {"type": "sequence-classification", "classes": 5}),
        ({"text": TEXTS, "target": range(ROWS)}, {"type": "regression", "label": "target"}),
        ({"text": TEXTS, "price": [3000 * i for i in range(ROWS)]}, {"type": "regression", "label": "price"}),
        ({"row": range(ROWS), "text": TEXTS}, {"type": "causal-lm", "used": ["text"]}),
        # questions with answers of few values are classes, not completions
        ({"question": TEXTS, "answer": ["yes", "no"] * 100}, {"label": "answer", "text": ["question"]}),
        ({"question": TEXTS, "answer": TEXTS[::-1]}, {"type": "causal-lm", "used": ["question", "answer"]}),
    ],
)
def test_inferred_columns(tmp_path: Path, columns: dict[str, Any], expected: dict[str, Any]) -> None:
    look = inspect_data(save(pd.DataFrame(columns), tmp_path / "data.csv"))
    assert {name: getattr(look, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": TEXTS[0], "topic": {"a": 1}}, "column 'topic' .* a dictionary"),
        ({"text": TEXTS[0], "labels": [1], "source": "x"}, "a list with one label"),
        ({"text": TEXTS[0], "entities": [{"start": 0, "end": 1}]}, "a list of spans"),
    ],
)
def test_several_labels_per_row_name_the_task_they_belong_to(tmp_path, row, message) -> None:
    rows = [{**row, **({"source": "xy"[i % 2]} if "source" in row else {})} for i in range(80)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidInputError, match=message):
        inspect_data(path)
    if "text" in row:
        assert inspect_data(path, "causal-lm").text == ["text"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"id": "x", "tokens": ["Bob", "ran"], "pos_tags": [1, 2], "ner_tags": ["B-per", "O"]},
            {"type": "token-classification", "text": ["tokens"], "label": "ner_tags", "metric": "entity_f1"},
        ),
        (
            {"words": ["a", "b"], "pos": ["N", "V"]},
            {"type": "token-classification", "text": ["words"], "label": "pos", "metric": "token_accuracy"},
        ),
        (
            {"text": TEXTS[0], "labels": ["a", "b"], "source": "x"},
            {
                "type": "multi-label-classification",
                "text": ["text"],
                "label": "labels",
                "used": ["text", "labels"],
            },
        ),
        (
            {"id": "x", "text": TEXTS[0], "toxic": 0, "rude": 1, "threat": 0},
            {
                "type": "multi-label-classification",
                "label": None,
                "label_columns": ["toxic", "rude", "threat"],
            },
        ),
    ],
)
def test_several_labels_per_row_are_recognized(tmp_path, row, expected) -> None:
    flipped = {name: 1 - value if isinstance(value, int) else value for name, value in row.items()}
    rows = [{**(row if i % 2 else flipped), "n": i} for i in range(80)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_data(path)
    assert {name: getattr(found, name) for name in expected} == expected
    write_scaffold("builtin:pocket", [path], tmp_path / "sweep.yaml")
    task = load_sweep(tmp_path / "sweep.yaml").task
    assert task.type == expected["type"]
    assert task.label == expected["label"] or list(task.label_columns) == expected["label_columns"]


def test_tags_of_an_instruction_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    row = {"instruction": TEXTS[0], "input": "", "output": TEXTS[1], "tags": ["a", "b"]}
    path.write_text("".join(json.dumps({**row, "input": str(i)}) + "\n" for i in range(20)))
    assert inspect_data(path).type == "causal-lm"


@pytest.mark.parametrize("has_table", [False, True])
def test_images_are_recognized_in_folders_and_columns(tmp_path: Path, has_table: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(40):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    data, expected = tmp_path / "photos", ("image", "label")
    if has_table:
        data, expected = tmp_path / "train.csv", ("file", "kind")
        paths = sorted((tmp_path / "photos").rglob("*.png"))
        rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in paths]
        data.write_text("\n".join(["file,kind", *rows]))
    write_scaffold("google/vit-base-patch16-224", [data], tmp_path / "sweep.yaml")
    task = load_sweep(tmp_path / "sweep.yaml").task
    assert (task.type, task.image, task.label) == ("image-classification", *expected)
    assert "max_length" not in (tmp_path / "sweep.yaml").read_text()


@pytest.mark.parametrize("value", ["inf", "1,200", "NaN", "n/a"])
def test_text_in_a_column_of_numbers_is_refused_with_its_place(tmp_path: Path, value: str) -> None:
    rows = pd.DataFrame({"text": TEXTS, "price": [value, *map(str, range(2, 2 * ROWS, 2))]})
    with pytest.raises(
        InvalidInputError, match=f"column 'price' holds numbers, but '{value}' in line 2 of p.tsv"
    ):
        inspect_data(save(rows, tmp_path / "p.tsv"))


def test_the_task_can_be_given(tmp_path: Path) -> None:
    stars = save(pd.DataFrame({"text": TEXTS, "stars": [1, 2, 3, 4, 5] * 40}), tmp_path / "stars.csv")
    assert inspect_data(stars, "regression").type == "regression"
    told = inspect_data(stars, "causal-lm")
    assert (told.type, told.label, told.text) == ("causal-lm", None, ["text"])
    plain = save(pd.DataFrame({"text": TEXTS}), tmp_path / "plain.csv")
    with pytest.raises(InvalidInputError, match="looks like a label for regression"):
        inspect_data(plain, "regression")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.xlsx", "", "is a workbook"),
        ("data.log", "", "ends in '.log'"),
        ("data.csv", "text,label\n", "has no rows"),
        ("data.csv", "", "cannot read"),
        ("data.jsonl", "{not json\n", "cannot read"),
        ("data.parquet", "abc", "cannot read"),
        ("data.csv", "a,b\n1,2\n3,4\n", "holds text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        inspect_data(path)
    with pytest.raises(InvalidInputError, match="there is no file"):
        inspect_data(tmp_path / "nothing.csv")


def test_rows_that_are_not_read_are_counted(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": np.resize(TEXTS, 20_500), "label": np.resize([0, 1], 20_500)})
    assert inspect_data(save(frame, tmp_path / "a.csv")).rows == pytest.approx(20_500, abs=1)
    assert inspect_data(save(frame, tmp_path / "a.parquet")).rows == 20_500


# --- the model


def test_models(tmp_path: Path, bert: str) -> None:
    assert inspect_model(bert) == ModelInspection("BertModel", 4, 32, 64, encoder=True)
    gpt = inspect_model(model_folder(tmp_path / "gpt", "GPT2LMHeadModel", "gpt2", 128))
    assert isinstance(gpt, ModelInspection)
    assert not gpt.encoder
    roberta = inspect_model(model_folder(tmp_path / "roberta", "RobertaForMaskedLM", "roberta", 514))
    assert isinstance(roberta, ModelInspection)
    assert (roberta.positions, roberta.encoder) == (512, True)
    with pytest.raises(InvalidInputError, match="has no config"):
        inspect_model(str(tmp_path))
    (tmp_path / "bert" / "config.json").write_text("{")
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        inspect_model(bert)


def test_a_model_id_works_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    found = inspect_model("nobody/such-model")
    assert found == "model: the configuration of 'nobody/such-model' could not be read (no route to host)"
    assert isinstance(inspect_model("not a hub id"), str)


# --- the file


@pytest.fixture
def write(tmp_path: Path, bert: str) -> Callable[..., Scaffold]:
    def make(frame: pd.DataFrame, name: str = "train.csv", **options: Any) -> Scaffold:
        data = save(frame, tmp_path / name)
        return write_scaffold(options.pop("model", bert), [data], tmp_path / "sweep.yaml", **options)

    return make


def test_the_file_loads_and_explains_its_values(tmp_path: Path, write: Callable[..., Scaffold]) -> None:
    labeled = pd.DataFrame({"text": TEXTS, "label": [0] * 190 + [1] * 10})
    save(labeled, tmp_path / "dev.csv")
    save(labeled.drop(columns="label"), tmp_path / "test.csv")
    scaffold = write(labeled)
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert loaded.task.train == str(tmp_path / "train.csv")
    assert loaded.task.validation == str(tmp_path / "dev.csv")
    assert loaded.task.test is None
    assert (loaded.task.text, loaded.task.label, loaded.task.metric) == (("text",), "label", "f1")
    assert loaded.task.positive == 1
    assert loaded.task.max_length == 32
    assert loaded.budget.trials == 30
    assert loaded.is_fidelity_open
    assert "train: train.csv" in scaffold.text  # relative: the folder can move
    notes = "\n".join(scaffold.notes)
    for reason in (
        "test.csv: not used, since it lacks values of label",
        "dev.csv, found beside",
        "95% of the examples",
        "98 %",
        "BertModel",
    ):
        assert reason in notes
    assert scaffold.text.count("#") > 20


def test_the_fidelity_is_left_to_the_run_and_long_texts_are_truncated(
    tmp_path: Path, write: Callable[..., Scaffold]
) -> None:
    write(pd.DataFrame({"text": ["word " * 300] * 4_000, "label": [0, 1] * 2_000}))
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert loaded.is_fidelity_open
    assert loaded.task.max_length == 64  # the model has no more positions
    assert loaded.task.metric == "accuracy"


@pytest.mark.parametrize(
    ("columns", "metric"),
    [
        ({"text": TEXTS, **NUMBERS}, "pearson"),
        (
            {"no": TEXTS, "1e3": ["yes", "no"] * 100},
            "accuracy",
        ),  # names that YAML could take for something else
        ({"a: b": TEXTS, "label #": ["x", "y"] * 100}, "accuracy"),
    ],
)
def test_every_kind_of_file_loads(
    tmp_path: Path, write: Callable[..., Scaffold], columns: dict[str, Any], metric: str
) -> None:
    write(pd.DataFrame(columns), "my train data.csv")
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert (*loaded.task.text, loaded.task.label) == tuple(columns)
    assert loaded.task.metric == metric


@pytest.mark.parametrize("columns", [{"text": TEXTS}, {"prompt": TEXTS, "completion": TEXTS}, CHATS])
def test_language_modeling(tmp_path: Path, write: Callable[..., Scaffold], columns: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="BertModel is an encoder, which cannot generate text"):
        write(pd.DataFrame(columns), "train.jsonl")
    assert not (tmp_path / "sweep.yaml").exists()
    gpt = model_folder(tmp_path / "gpt", "GPT2LMHeadModel", "gpt2", 128)
    write(pd.DataFrame(columns), "train.jsonl", model=gpt)
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert (loaded.task.type, loaded.task.metric, loaded.task.columns) == (
        "causal-lm",
        "eval_loss",
        tuple(columns),
    )


def test_an_existing_file_is_kept(tmp_path: Path, write: Callable[..., Scaffold]) -> None:
    (tmp_path / "sweep.yaml").write_text("mine")
    frame = pd.DataFrame({"text": TEXTS, **CLASSES})
    with pytest.raises(InvalidInputError, match="--force"):
        write(frame)
    assert (tmp_path / "sweep.yaml").read_text() == "mine"
    write(frame, force=True)
    assert load_sweep(tmp_path / "sweep.yaml").task.label == "label"
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(InvalidInputError, match="there is no folder"):
        write_scaffold("x", [tmp_path / "train.csv"], tmp_path / "no" / "sweep.yaml")
