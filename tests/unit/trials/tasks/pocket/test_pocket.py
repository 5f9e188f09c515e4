"""The pocket task and its base: no leaks, no giveaways, the same everywhere, and offline."""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trials.tasks.pocket import base_folder, corpus, load_corpus

HELD_PARTS = ("train", "validation", "test")
WORDS = ("alpha", "beta", "gamma", "delta", "river", "stone", "cloud", "ember", "frost", "north", "south")


def write_source(root: Path, subject: str, files: int = 40, functions: int = 40) -> Path:
    """A package of `files` modules whose docstrings are all different; `subject` is in each."""
    root.mkdir(parents=True)
    for i in range(files):
        lines = []
        for j in range(functions):
            digest = hashlib.md5(f"{subject} {i} {j}".encode()).digest()
            words = " ".join(WORDS[byte % len(WORDS)] for byte in digest)
            lines.append(f'def f{j}():\n    """About {subject} number {i} {j}: {words}."""\n')
        (root / f"module_{i}.py").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.fixture
def fresh() -> Iterator[None]:
    """No cached corpus before or after."""
    load_corpus.cache_clear()
    yield
    load_corpus.cache_clear()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> dict[str, Path | None]:
    """Three made-up sources in place of the installed ones; the caller may take some away."""
    found: dict[str, Path | None] = {
        name: write_source(tmp_path / name, subject)
        for name, subject in (("numpy", "planets"), ("pandas", "kitchens"), ("torch", "gardens"))
    }
    monkeypatch.setattr(corpus, "CLASSES", tuple(found))
    monkeypatch.setattr(corpus, "locate", found.get)
    return found


@pytest.fixture(scope="module")
def real() -> corpus.Corpus:
    """The corpus of the packages installed here."""
    load_corpus.cache_clear()
    return load_corpus()


def test_no_text_is_twice_in_the_corpus(real: corpus.Corpus) -> None:
    keys = [" ".join(re.findall("[a-z0-9]+", row["text"])) for rows in real.splits.values() for row in rows]
    assert len(keys) == len(set(keys))


def test_the_real_task_is_balanced_and_large_enough(real: corpus.Corpus) -> None:
    assert real.left_out == ()
    assert real.labels == tuple(sorted(corpus.CLASSES))
    for part in HELD_PARTS:
        assert real.counts(part) == dict.fromkeys(real.labels, corpus.QUOTAS[part])
    assert len(real.splits["pretrain"]) > 2000
    assert 20 < real.mean_words() < 40
    assert all(
        corpus.MIN_WORDS <= len(row["text"].split()) <= corpus.MAX_WORDS for row in real.splits["train"]
    )


def test_no_text_names_its_source(real: corpus.Corpus) -> None:
    text = "\n".join(row["text"] for rows in real.splits.values() for row in rows)
    assert [name for name in (*real.labels, "pytorch", "scikit-learn") if name in text] == []
    assert re.findall(r"(?<![a-z])(np|pd)(?![a-z])", text) == []
    assert corpus.MASK in text


def test_classes_are_not_given_away_by_the_order(real: corpus.Corpus) -> None:
    labels = [row["label"] for row in real.splits["train"]]
    repeats = sum(a == b for a, b in itertools.pairwise(labels)) / len(labels)
    assert repeats < 0.2  # one eighth is expected; sorted by class it would be one


def test_summary_says_what_was_found(real: corpus.Corpus) -> None:
    summary = real.summary()
    assert "3,200 train, 800 validation, 800 test" in summary
    assert "numpy 400" in summary


def test_part_depends_on_the_words_alone() -> None:
    parts = [corpus.part_of(hashlib.sha256(f"text {i}".encode()).hexdigest()) for i in range(4800)]
    # Written down so that no change of the code moves texts between parts unnoticed.
    assert parts[:6] == ["validation", "pretrain", "pretrain", "pretrain", "train", "pretrain"]
    for part, share in corpus.PARTS.items():
        assert parts.count(part) == pytest.approx(100 * share, rel=0.2)


def test_two_readings_agree(sources: dict[str, Path | None]) -> None:
    first = load_corpus()
    assert load_corpus() is first
    load_corpus.cache_clear()
    assert load_corpus() == first


@pytest.fixture
def parsed(sources: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of the sources that were parsed, with an empty cache on disk."""
    found: list[Path] = []
    read = corpus.read_texts
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "read_texts", lambda root: (found.append(root), read(root))[1])
    return found


def test_a_second_process_does_not_parse_the_sources(
    sources: dict[str, Path | None], parsed: list[Path]
) -> None:
    first = load_corpus()
    assert len(parsed) == len(sources)
    load_corpus.cache_clear()
    assert load_corpus() == first
    assert len(parsed) == len(sources)


def test_changed_sources_are_parsed_again(sources: dict[str, Path | None], parsed: list[Path]) -> None:
    first = load_corpus()
    root = sources["numpy"]
    assert root is not None
    (root / "module_0.py").write_text('"""Words of a file that was changed after it had been read."""\n')
    load_corpus.cache_clear()
    assert load_corpus() != first
    assert len(parsed) == 2 * len(sources)


@pytest.mark.parametrize("damage", ["truncated", "folder"])
def test_an_unusable_cache_is_ignored(
    sources: dict[str, Path | None], parsed: list[Path], tmp_path: Path, damage: str
) -> None:
    first = load_corpus()
    (file,) = (tmp_path / "cache").rglob("*.json")
    text = file.read_text()
    file.unlink()
    if damage == "truncated":
        file.write_text(text[:100])
    else:
        shutil.rmtree(file.parent)
        file.parent.write_text("no folder")
    load_corpus.cache_clear()
    assert load_corpus() == first
    assert len(parsed) == 2 * len(sources)


def test_splits_do_not_depend_on_where_a_text_is_found(
    sources: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {row["text"]: part for part, rows in load_corpus().splits.items() for row in rows}
    for name, root in list(sources.items()):
        assert root is not None
        moved = tmp_path / "elsewhere" / name
        moved.mkdir(parents=True)
        everything = "\n".join(path.read_text() for path in sorted(root.iterdir()))
        (moved / "single_file.py").write_text(everything)
        sources[name] = moved
    load_corpus.cache_clear()
    again = {row["text"]: part for part, rows in load_corpus().splits.items() for row in rows}
    shared = places.keys() & again.keys()
    assert len(shared) > 1000
    assert all(places[text] == again[text] for text in shared)


def test_a_missing_package_is_left_out(sources: dict[str, Path | None]) -> None:
    sources["torch"] = None
    found = load_corpus()
    assert found.labels == ("numpy", "pandas")
    assert found.left_out == ("torch",)
    assert "left out: torch" in found.summary()


def test_a_package_with_few_docstrings_is_left_out(sources: dict[str, Path | None], tmp_path: Path) -> None:
    sources["torch"] = write_source(tmp_path / "small", "gardens", files=1)
    assert load_corpus().left_out == ("torch",)


def test_nothing_to_read_is_an_error(sources: dict[str, Path | None], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sources.update(numpy=None, torch=tmp_path / "empty")
    with pytest.raises(ValueError, match=r"at least two sources.*numpy, torch"):
        load_corpus()


def test_a_text_of_two_sources_is_dropped(sources: dict[str, Path | None]) -> None:
    shared = "Words that both packages have taken from the same place."
    for name in ("numpy", "pandas"):
        root = sources[name]
        assert root is not None
        (root / "module_0.py").write_text(f'"""{shared}"""\n')
    texts = [row["text"] for rows in load_corpus().splits.values() for row in rows]
    assert corpus.clean(shared) not in texts


def test_files_that_do_not_parse_and_foreign_folders_are_skipped(tmp_path: Path) -> None:
    good = '"""One good docstring with more than six words in it."""\n'
    (tmp_path / "good.py").write_text(good)
    (tmp_path / "newer.py").write_text(good + "match = = 3\n")
    (tmp_path / "latin.py").write_bytes(good.encode() + b"x = '\xe9'\n")
    (tmp_path / "null.py").write_bytes(good.encode() + b"\0")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    for folder in ("tests", "tkinter", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inside.py").write_text(
            f'"""Text in {folder} that nobody should ever read."""\n'
        )
    assert list(corpus.read_texts(tmp_path)) == ["one good docstring with more than six words in it."]


def test_clean_keeps_prose_and_masks_names() -> None:
    docstring = """Return a :class:`~torch.Tensor` like NumPy's, see https://pytorch.org/docs for more.

    Parameters
    ----------
    input : np.ndarray
        An enriched *array*, clicked by scikit-learn.

    Examples
    --------
    >>> import pandas as pd
    """
    assert corpus.clean(docstring) == (
        "return a library.tensor like library's, see for more. "
        "input : library.ndarray an enriched array, clicked by library."
    )
    assert len(corpus.clean("word " * 500).split()) == corpus.MAX_WORDS


def test_sources_are_found_and_never_imported() -> None:
    code = "import sys, trials.tasks.pocket as p; p.corpus.locate('torch'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    folder = corpus.locate("python")
    assert folder is not None
    assert ast.parse((folder / "argparse.py").read_bytes())
    assert corpus.locate("no_such_package_at_all") is None


def test_base_is_small_and_loads_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = base_folder()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=8)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    texts = ["Sum of the array elements.", "word " * 200]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (2, 64)
    assert tokenizer.unk_token_id not in batch["input_ids"]
    logits = model(**batch).logits
    assert logits.shape == (2, 8)
    assert torch.isfinite(logits).all()


def test_base_knows_words_by_their_company() -> None:
    """The embeddings are trained ones: tokens of like use are nearer than others."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    vectors = AutoModel.from_pretrained(base_folder()).get_input_embeddings().weight.detach()

    def likeness(one: str, other: str) -> float:
        ids = tokenizer.convert_tokens_to_ids([one, other])
        return torch.cosine_similarity(vectors[ids[0]], vectors[ids[1]], dim=0).item()

    assert likeness("rows", "columns") > likeness("rows", "socket") + 0.2
    assert likeness("tokenizer", "tokens") > likeness("tokenizer", "eigenvalues") + 0.2
