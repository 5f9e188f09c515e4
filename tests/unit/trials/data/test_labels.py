"""Labels: their types, the classes, the targets, and what is refused or reported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from search_spaces.errors import InvalidInputError
from trials.data.labels import (
    check_label_types,
    class_names,
    find_classes,
    read_targets,
    without_unlabeled_splits,
)
from trials.data.notes import Notes
from trials.reading.labels import class_positions, label_text
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec


def table(labels: Sequence[object], file: str = "train.tsv", texts: Sequence[object] | None = None) -> Rows:
    texts = [f"text {i}" for i in range(len(labels))] if texts is None else texts
    return Rows({"text": texts, "label": labels}, [f"line {i + 2} of {file}" for i in range(len(labels))])


def read(
    train: Sequence[object], type: str = "sequence-classification", **others: Sequence[object]
) -> tuple[tuple[object, ...] | None, dict[str, Rows], Notes]:
    task, notes = TaskSpec(type=type, text="text", label="label"), Notes()
    raw = {"train": table(train)} | {name: table(labels, f"{name}.tsv") for name, labels in others.items()}
    check_label_types(raw, task)
    classes = find_classes(raw, task, notes)
    return classes, read_targets(raw, task, classes, notes), notes


def refused(*arguments: object, **others: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read(*arguments, **others)
    return str(caught.value)


# --- columns of lists


@pytest.mark.parametrize(
    ("label", "text", "message"),
    [
        ([0, 2], "a b", "multi-label classification"),
        (["a"], "a b", "multi-label classification"),
        ([], "a b", "multi-label classification"),
        ([0.5, 1.5], "a b", "a regression with several targets"),
        ({"a": 1, "b": 0}, "a b", "several labels"),
        ([{"start": 0, "end": 1, "label": "PER"}], "a b", "token classification"),
    ],
)
@pytest.mark.parametrize("type", ["sequence-classification", "regression"])
def test_labels_that_are_no_single_value_name_the_task_they_belong_to(label, text, message, type):
    task = TaskSpec(type=type, text="text", label="label")
    rows = table([0, label], texts=[text, text])
    with pytest.raises(InvalidInputError, match=message) as caught:
        check_label_types({"train": rows}, task)
    assert str(caught.value).startswith("task.label: line 3 of train.tsv of train has ")
    fix = "Set type: multi-label-classification" if message.startswith("multi") else "not supported"
    assert fix in str(caught.value)


def test_a_list_with_one_label_is_to_be_taken_out():
    assert "Take the label out of its list" in refused([["a"], ["b"]])


def test_words_with_one_label_each_are_token_classification():
    rows = table([[0, 0], [0]], texts=[["a", "b"], ["c"]])
    with pytest.raises(InvalidInputError, match=r"task.text: line 2 .* Set type: token-classification"):
        check_label_types({"train": rows}, TaskSpec(text="text", label="label"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "true"), (False, "false"), (b"\xff", r"bytes \(b'\\xff'\)"), (timedelta(1), "timedelta")],
)
def test_a_value_that_is_no_text_is_named_with_its_column_and_row(value, shown):
    rows = table([0, 1, 0], texts=["a", None, value])
    with pytest.raises(
        InvalidInputError,
        match=f"task.text: column 'text' of train has {shown}.* in line 4 of train.tsv, which is not",
    ):
        check_label_types({"train": rows}, TaskSpec(text="text", label="label"))


@pytest.mark.parametrize("value", [b"A", timedelta(1)])
@pytest.mark.parametrize("type", ["sequence-classification", "regression"])
def test_labels_of_bytes_and_durations_are_refused_with_their_column(value, type):
    message = refused(["a", value], type)
    assert f"task.label: column 'label' of train has {value.__class__.__name__}" in message
    assert "line 3 of train.tsv" in message


def test_a_list_of_words_is_no_text():
    rows = table([0, 1], texts=["a", ["b", "c"]])
    with pytest.raises(
        InvalidInputError, match=r"line 3 of train.tsv of train has \['b', 'c'\] in 'text': no text"
    ):
        check_label_types({"train": rows}, TaskSpec(text="text", label="label"))


def test_single_values_of_any_type_are_labels():
    for labels in (["a", "b"], [0, 1], [0.0, 1.0], [True, False]):
        classes, _, _ = read(labels)
        assert classes == tuple(sorted(labels))


# --- classes


@pytest.mark.parametrize(
    ("train", "validation"),
    [([0, 1], ["0", "1"]), (["0", "1"], [0, 1]), ([0, 1], [0.0, 1.0]), ([0.0, 1.0], [0, 1]), ([0.0, 1.0], ["0", "1"]),
     ([False, True], ["False", "True"]), (["false", "true"], [False, True]), (["FALSE", "TRUE"], [False, True])],
)  # fmt: skip
def test_a_label_is_the_same_class_however_a_file_writes_it(train, validation):
    classes, splits, _ = read(train * 5, validation=validation)
    assert classes == tuple(train)
    assert [list(map(type, splits["validation"]["label"]))] == [[type(train[0])] * 2]
    assert splits["validation"]["label"] == train


def test_text_for_numbers_is_counted():
    _, _, notes = read([0, 1] * 5, validation=["1", "0", "1"])
    assert notes.facts == ["validation: 3 labels are read as another type, such as '1' as 1"]


def test_one_class_has_one_value_where_a_column_mixes_types():
    classes, splits, _ = read([0, 1, "1", "0", 1, 1])
    assert classes == (0, 1)
    assert splits["train"]["label"] == [0, 1, 1, 0, 1, 1]


def test_numbers_that_are_written_differently_are_different_texts():
    classes, _, _ = read(["1", "01", "1.0"])
    assert classes == ("01", "1", "1.0")


def test_true_beside_numbers_is_refused():
    assert "both true or false and numbers" in refused([0, 1, True])


@pytest.mark.parametrize("label", ["", "  "])
def test_an_empty_label_is_refused_with_its_place(label):
    assert "line 4 of train.tsv of train has an empty label" in refused(["a", "b", label])
    assert "line 2 of test.tsv of test has an empty label" in refused(["a", "b"], test=[label])


def test_labels_that_train_lacks_are_refused_with_their_places():
    message = refused(["good", "bad"], validation=["good", "godo", "ugly", "godo"])
    assert (
        "validation has labels that train does not have: 'godo' (line 3 of validation.tsv), 'ugly' (line 4"
        in message
    )
    assert "Did you mean 'good'?" in message
    assert "2 more" in refused(["a", "b"], test=list("cdefghi"))


def test_unlabeled_splits_are_recognized():
    assert "unknown label" in refused([0, 1], test=[-1, -1])
    assert read([-1, 0, 1], test=[-1])[0] == (-1, 0, 1), "a class if train has it"


def test_an_unlabeled_split_of_a_data_set_is_left_out_and_said():
    raw = {"train": table([0, 1]), "validation": table([0, 1]), "test": table([-1, None])}
    for named, kept in (({}, {"train", "validation"}), ({"test": "test"}, set(raw))):
        sources, notes = dict.fromkeys(raw), Notes()
        task = TaskSpec(dataset="reviews", text="text", label="label", **named)
        assert set(without_unlabeled_splits(raw, sources, task, notes)) == set(sources) == kept
        assert len(notes.facts) == 3 - len(kept)
    with_class = {**raw, "train": table([-1, 1]), "test": table([-1, -1])}
    task = TaskSpec(dataset="reviews", text="text", label="label")
    assert set(without_unlabeled_splits(with_class, {}, task, Notes())) == set(raw)


@pytest.mark.parametrize("other", ["positive", "Positive ", " POSITIVE"])
def test_labels_that_differ_in_case_or_white_space_are_a_warning(other):
    classes, _, notes = read(["Positive", "Positive", other, "negative"])
    assert len(classes) == 3
    (warning,) = notes.warnings
    assert "'Positive' (2 rows)" in warning
    assert f"{other!r} (1 rows)" in warning
    assert "count as 2 classes" in warning
    message = refused(["positive", "negative"], validation=["positive "])
    assert "'positive ' (line 2 of validation.tsv)" in message
    assert "Did you mean 'positive'?" in message


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("caf\u00e9", "cafe\u0301", "'cafe\\u0301'"),
        ("pos", "pos\u200b", "'pos\\u200b'"),
        ("pos", "\ufeffPos", "'\\ufeffPos'"),
        ("pos", "po\u00ads", "'po\\xads'"),
        ("\uff30os", "pos", "'pos'"),
        ("\u2764", "\u2764\ufe0f", "'\u2764\ufe0f'"),
    ],
)
def test_labels_that_differ_only_in_unicode_forms_or_invisible_characters_are_a_warning(one, other, shown):
    _, _, notes = read([one, other, one, "other"])
    (warning,) = notes.warnings
    assert shown in warning
    assert "(2 rows)" in warning
    assert "count as 2 classes" in warning


@pytest.mark.parametrize(
    ("one", "other"), [("cafe", "caf\u00e9"), ("\u0915\u0941", "\u0915\u0942"), ("a", "b")]
)
def test_labels_with_other_letters_or_accents_are_no_warning(one, other):
    assert read([one, other])[2].warnings == []


def test_fractions_as_classes_are_a_warning():
    _, _, notes = read([1.0, 2.5, 2.0])
    assert "set type: regression" in notes.warnings[0]
    assert read([1.0, 2.0])[2].warnings == []


@pytest.mark.parametrize(
    "labels", [["[0, 2]", "[1]"], ["a", "b", "a, b"], ["a", "b", "a|b"], ["a", "b", "b;a"]]
)
def test_several_labels_in_one_text_are_a_warning(labels):
    _, _, notes = read(labels)
    assert "not a list of labels" in notes.warnings[0]


def test_a_separator_within_one_class_is_no_warning():
    assert read(["pass/fail", "pass", "other"])[2].warnings == []


def test_many_classes():
    assert "101 different labels" in refused(list(range(101)))
    _, _, notes = read(list(range(101)) * 4)
    assert notes.warnings == ["label: 101 classes, 101 of them with fewer than 5 rows of train"]


def test_a_single_class_is_refused():
    assert "only one label, 'a'" in refused(["a", "a"])


def test_positions_by_text():
    assert class_positions((0, 1)) == {"0": 0, "1": 1}
    assert class_positions((False, True))["TRUE"] == 1
    assert "True" in class_positions(("true", "True")), "two classes stay two"
    assert class_positions(("true", "True"))["true"] == 0
    assert label_text(1e20) == "100000000000000000000"


# --- targets of a regression


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3.5", 3.5),
        ("-2", -2.0),
        (" 1e3 ", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (7, 7.0),
        (Decimal("1.5"), 1.5),
    ],
)
def test_plain_numbers_are_targets_also_as_text(value, number):
    _, splits, notes = read([1.0, value], "regression")
    assert splits["train"]["label"] == [1.0, number]
    assert len(notes.facts) == isinstance(value, str)


@pytest.mark.parametrize(
    "value", ["1,200", "high", "1_000", "inf", "NaN", "1 200", "$5", "5 %", "", True, "٣", "1e"]
)
def test_other_text_is_no_number(value):
    message = refused([1.0, 2.0, value], "regression")
    assert f"train: line 4 of train.tsv has {value!r} in 'label', which is not a number" in message


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), "1e999", 10**400])
def test_targets_are_finite(value):
    message = refused([1.0, 2.0], "regression", test=[3.0, value])
    assert "test: line 3 of test.tsv has " in message
    assert "not a finite number" in message


# --- names of classes


@pytest.mark.parametrize(
    ("classes", "known", "names"),
    [
        ((0, 1), ("neg", "pos"), ("neg", "pos")),
        ((0, 2), ("neg", "neutral", "pos"), ("neg", "pos")),
        ((0, 1), (), ("0", "1")),
        ((0, 1), ("same", "same"), ("0", "1")),
        ((0, 5), ("neg", "pos"), ("0", "5")),
        ((-1, 0), ("neg", "pos"), ("-1", "0")),
        (("a", 1), ("neg", "pos"), ("a", "1")),
        ((False, True), ("neg", "pos"), ("False", "True")),
        (None, ("neg", "pos"), None),
    ],
)
def test_classes_have_the_names_of_the_data_set(classes, known, names):
    notes = Notes()
    rows = Rows({"label": [0, 1]}, class_names={"label": known, "other": ("x", "y")})
    assert class_names(classes, rows, TaskSpec(text="text", label="label"), notes) == names
    found = (
        [f"label: the data set names its classes: {classes[0]} is 'neg', {classes[1]} is 'pos'"]
        if names in (("neg", "pos"),)
        else []
    )
    assert notes.facts == found
