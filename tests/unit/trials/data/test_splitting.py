"""Carving: no text in two splits, each class in its share, every class in train."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from trials.data.leakage import text_keys
from trials.data.notes import Notes
from trials.data.splitting import CannotCarveError, carve, choose_rows
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ROWS_APART, TaskSpec

SPLITS = ("train", "validation", "test")


def carved(
    pairs: list[tuple[str, object]], given: dict[str, Rows] | None = None, **fields: object
) -> tuple[dict[str, Rows], Notes]:
    task, notes = TaskSpec(**{"text": "text", "label": "label", **fields}), Notes()
    train = Rows.of({"text": text, "label": label} for text, label in pairs)
    splits = carve({"train": train, **(given or {})}, text_keys(train, task).similar, {}, task, notes)
    return splits, notes


def counts(rows: Rows) -> Counter[object]:
    return Counter(rows["label"])


def test_no_text_is_in_two_splits_though_every_text_is_repeated() -> None:
    splits, _ = carved([(f"text {i}", i % 2) for i in range(100)] * 4)
    texts = [set(splits[name]["text"]) for name in SPLITS]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 100
    assert [len(splits[name]) for name in SPLITS] == [272, 64, 64]  # 15 texts of 4 rows would be 60


def test_rows_that_differ_in_white_space_and_label_stay_together() -> None:
    splits, _ = carved([(f"text {i}" + " " * copy, (i + copy) % 2) for i in range(60) for copy in range(3)])
    texts = [{text.strip() for text in splits[name]["text"]} for name in SPLITS]
    assert sum(map(len, texts)) == 60


def test_a_classs_share_is_the_same_in_every_split() -> None:
    splits, notes = carved([(f"text {i}", "fraud" if i % 20 == 0 else "legit") for i in range(600)])
    assert counts(splits["train"]) == {"fraud": 20, "legit": 400}
    for name in ("validation", "test"):
        assert counts(splits[name])["fraud"] in (4, 5)
        assert len(splits[name]) == 90
        assert f"{name}: 90 rows carved out of train (seed 0)" in notes.facts


def test_classes_that_occur_once_stay_in_train() -> None:
    pairs = [(f"text {i}", f"intent_{i % 5}" if i < 200 else f"rare_{i}") for i in range(211)]
    splits, notes = carved(pairs)
    assert set(splits["train"]["label"]) == {label for _, label in pairs}
    assert [len(splits[name]) for name in SPLITS] == [147, 32, 32]
    for name in ("validation", "test"):
        assert set(splits[name]["label"]) == {f"intent_{i}" for i in range(5)}
        assert f"{name}: has rows of 5 of 16 classes" in notes.facts
    (single,) = [note for note in notes.facts if "single text" in note]
    assert single.startswith("train: 11 of 16 classes have a single text, which stays in train: 'rare_200', ")
    assert single.endswith(" and 6 more")


def test_a_class_of_one_repeated_text_stays_in_train() -> None:
    splits, notes = carved([(f"text {i}", "common") for i in range(40)] + [("same", "rare")] * 6)
    assert counts(splits["train"])["rare"] == 6
    assert any("1 of 2 class has a single text" in note for note in notes.facts)


def test_many_small_classes_fill_the_split_together() -> None:
    splits, _ = carved([(f"text {i}", i % 50) for i in range(150)])
    assert [len(splits[name]) for name in SPLITS] == [106, 22, 22]
    assert len(set(splits["train"]["label"])) == 50


def test_the_seed_determines_the_carve() -> None:
    pairs = [(f"text {i // 2}", i % 3) for i in range(120)]
    first, _ = carved(pairs)
    assert carved(pairs)[0] == first
    assert carved(pairs, split_seed=1)[0]["test"]["text"] != first["test"]["text"]


def test_without_repeats_and_classes_the_carve_is_that_of_rows() -> None:
    """Sweeps without classes go on with the splits that earlier versions made."""
    pairs = [(f"text {i}", float(i)) for i in range(50)]
    assert carved(pairs, type="regression")[0] == carved(pairs, type="regression", data_version=ROWS_APART)[0]


def test_an_earlier_version_carves_rows_at_random() -> None:
    splits, _ = carved([(f"text {i % 10}", i % 2) for i in range(40)], data_version=ROWS_APART)
    order = np.random.default_rng(0).permutation(40)
    assert splits["validation"]["text"] == [f"text {i % 10}" for i in np.sort(order[:6])]


def test_only_missing_splits_are_carved() -> None:
    given = Rows.of([{"text": "given", "label": 0}])
    splits, _ = carved([(f"text {i}", i % 2) for i in range(40)], {"validation": given})
    assert splits["validation"] is given
    assert (len(splits["train"]), len(splits["test"])) == (34, 6)


def test_large_groups_keep_the_size_near_the_requested_size() -> None:
    pairs = [("long" if i < 60 else f"text {i}", 0.0) for i in range(100)]
    splits, notes = carved(pairs, type="regression")
    assert [len(splits[name]) for name in SPLITS] == [70, 15, 15]
    assert "requested" not in " ".join(notes.facts)


def test_a_size_that_groups_do_not_permit_is_explained() -> None:
    splits, notes = carved([(f"text {i % 5}", 0.0) for i in range(100)], type="regression")
    assert [len(splits[name]) for name in SPLITS] == [60, 20, 20]
    assert any(
        "20 rows carved out of train (seed 0), equal texts in one split; 15 were requested" in note
        for note in notes.facts
    )


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("same", i % 2) for i in range(40)], "all 40 rows have the same text"),
        ([(f"text {i % 2}", i % 2) for i in range(40)], "40 rows have 2 different texts"),
        ([(f"text {i}", i) for i in range(40)], "each class keeps one in train"),
    ],
)
def test_texts_that_cannot_be_separated_are_refused(pairs: list[tuple[str, object]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        carved(pairs)
    assert "files for the other splits" in str(caught.value)


def test_every_class_of_a_mixed_group_keeps_a_row() -> None:
    """The two rows of class 1 have one text each with rows of class 0, so only one of them can leave train."""
    groups, classes = np.array([0, 0, 1, 1, *range(2, 12)]), np.array([0, 1, 0, 1, *[0] * 10])
    for seed in range(20):
        parts = choose_rows(groups, classes, 3, 2, np.random.default_rng(seed))
        left = np.setdiff1d(np.arange(len(groups)), np.concatenate(parts))
        assert set(classes[left]) == {0, 1}


def test_chosen_rows_are_disjoint_whole_groups_of_about_the_size() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        groups = np.unique(rng.integers(0, 80, 200), return_inverse=True)[1]
        classes = rng.integers(0, int(rng.integers(1, 6)), 200)
        classes = np.unique(classes, return_inverse=True)[1]
        try:
            a, b = choose_rows(groups, classes, 30, 2, rng)
        except CannotCarveError:
            pytest.fail("many groups can always be separated")
        left = np.setdiff1d(np.arange(200), np.concatenate([a, b]))
        assert not set(groups[a]) & set(groups[b]) | set(groups[left]) & set(groups[np.concatenate([a, b])])
        assert set(classes[left]) == set(classes)
        assert abs(len(a) - 30) <= 3 * 5
        assert abs(len(b) - 30) <= 3 * 5
