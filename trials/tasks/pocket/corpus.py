"""Natural text of every installation: the docstrings of the standard library and of the installed packages.

The task is to predict from which of eight sources a docstring comes. Sources are read with `ast` and never imported,
so reading is fast and runs no code. What reveals the answer without being about the subject is removed: the sources'
own names, doctest prompts, section headings, markup roles, addresses.

A text's part is a function of the SHA-256 of its normalized words, so it is the same on every machine and with every
version of the packages:

    24/48  pretrain     for `trials.tasks.pocket.pretrain`; no text of it is in the task
    16/48  train        at most 400 texts a class
     4/48  validation   at most 100 texts a class
     4/48  test         at most 100 texts a class
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from search_spaces.errors import InvalidInputError, Problem
from trials.tasks.pocket import corpus_cache
from trials.tasks.pocket.corpus_cache import sources_digest

CLASSES = ("numpy", "pandas", "python", "scipy", "sklearn", "sqlalchemy", "torch", "transformers")
# Read in pre-training only: more text of the same kind, from dependencies of the packages above.
EXTRAS = (
    "sympy", "networkx", "optuna", "datasets", "pydantic", "accelerate", "peft", "huggingface_hub",
    "rich", "typer", "click", "jinja2", "fsspec", "alembic", "joblib", "anyio", "aiohttp", "pygments",
)  # fmt: skip
PARTS = {"pretrain": 24, "train": 16, "validation": 4, "test": 4}  # shares in 48ths
QUOTAS = {"train": 400, "validation": 100, "test": 100}  # the maximum number of texts per class
MINIMA = {"train": 100, "validation": 25, "test": 25}  # a class with fewer texts is dropped
MIN_WORDS, MAX_WORDS = 6, 40
DENSE = 0.7  # docstrings per 1,000 bytes; files below it are read last, so that less code is parsed
MASK = "library"

# Directories that some installations lack, that hold test data, or that hold another project's code.
SKIPPED = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "testing", "tkinter", "idlelib"}
    | {"turtledemo", "lib2to3", "_vendor", "vendored", "externals", "_lib", "third_party"}
)
_NAMES = (
    "scikit-learn", "scikit learn", "hugging face", "huggingface", "pytorch", "cpython", *CLASSES, *EXTRAS,
)  # fmt: skip
_ALIASES = ("np", "pd", "sp", "sa", "nx", "hf", "sklearn", "scikit", "hub")
# Short names are masked as whole words only: "rich" is in "enrich", "click" in "clicked", "np" in "input".
_LONG = [re.escape(name) for name in _NAMES if len(name) > 5 or name in ("numpy", "scipy", "torch")]
_SHORT = [re.escape(name) for name in (*_NAMES, *_ALIASES) if len(name) <= 5]
_NAME = re.compile("|".join(_LONG) + "|(?<![a-z])(?:" + "|".join(_SHORT) + ")(?![a-z])")
_HEADING = re.compile(
    r"^(other parameters|keyword arguments|parameters?|args|arguments|attributes|methods|shape|inputs?|outputs?|"
    r"returns?|yields?|raises?|examples?|notes?|warnings?|references|see also|usage|todo)\s*:*$"
)
_WORD = re.compile(r"\w")
_TOKEN = re.compile("[a-z0-9]+")
_URL = re.compile(r"https?://\S+")
_ROLE = re.compile(r":[a-z:]+:`[~!.]?([^`<]*?)\s*(?:<[^`]*>)?`")
_FIELD = re.compile(r":(?:param|type|returns?|rtype|raises|ivar|cvar)\b")


@dataclass(frozen=True)
class Corpus:
    """The texts of this installation.

    Args:
        splits: The rows `{"text": ..., "label": ...}` of each part, in the order of their hashes.
        left_out: The classes that are not installed or have too few docstrings.
    """

    splits: dict[str, list[dict[str, str]]]
    left_out: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the task, sorted."""
        return tuple(sorted({row["label"] for row in self.splits["train"]}))

    def counts(self, part: str) -> Counter[str]:
        """Return the number of texts per class in one part."""
        return Counter(row["label"] for row in self.splits[part])

    def mean_words(self) -> float:
        """Return the mean number of words (split at white space) of the train, validation and test texts."""
        words = [len(row["text"].split()) for part in QUOTAS for row in self.splits[part]]
        return sum(words) / len(words)

    def summary(self) -> str:
        """Return the sizes of the parts and classes, in two lines."""
        sizes = ", ".join(f"{len(self.splits[part]):,} {part}" for part in PARTS)
        per_class = ", ".join(f"{name} {count}" for name, count in sorted(self.counts("train").items()))
        absent = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"docstrings of {len(self.labels)} sources: {sizes}; {self.mean_words():.1f} words on average\n"
            f"train texts per source: {per_class}{absent}"
        )


@functools.cache
def load_corpus() -> Corpus:
    """Read the task from the installed sources; the result is cached, in this process and on disk.

    Raises:
        InvalidInputError: Fewer than two of `CLASSES` are installed as readable source with enough docstrings.
    """
    roots = {name: locate(name) for name in CLASSES}
    rules = repr((CLASSES, PARTS, QUOTAS, MINIMA))
    digest = sources_digest(Path(__file__), rules, [(root, _files(root)) for root in roots.values() if root])
    stored = corpus_cache.read(digest)
    if stored is not None:
        return Corpus(stored["splits"], tuple(stored["left_out"]))
    corpus = _read_corpus(roots)
    corpus_cache.write(digest, asdict(corpus))
    return corpus


def _read_corpus(roots: Mapping[str, Path | None]) -> Corpus:
    found = {  # class -> normalized words -> text
        name: _read_quota(root) if root else {} for name, root in roots.items()
    }
    seen = Counter(key for texts in found.values() for key in texts)
    splits: dict[str, list[tuple[str, dict[str, str]]]] = {part: [] for part in PARTS}
    left_out = []
    for name, texts in found.items():
        parts: dict[str, list[tuple[str, dict[str, str]]]] = {part: [] for part in PARTS}
        for digest, key in sorted((_digest(key), key) for key in texts):
            if seen[key] == 1:  # a text of two sources has no correct label
                parts[part_of(digest)].append((digest, {"text": texts[key], "label": name}))
        if any(len(parts[part]) < least for part, least in MINIMA.items()):
            left_out.append(name)
            continue
        for part, rows in parts.items():
            splits[part] += rows[: QUOTAS.get(part)]
    if len(CLASSES) - len(left_out) < 2:
        what = (
            f"builtin:docstrings needs at least two sources with {MINIMA['train']} training docstrings, and "
            f"{', '.join(left_out)} are not installed as readable .py files"
        )
        raise InvalidInputError(Problem("task.dataset", what, "Install two of them from wheels."))
    ordered = {part: [row for _, row in sorted(rows, key=lambda r: r[0])] for part, rows in splits.items()}
    return Corpus(ordered, tuple(left_out))


def pretraining_texts() -> list[str]:
    """Return the texts of the pre-training part, from `CLASSES` and `EXTRAS`, without duplicates, by hash."""
    texts: dict[str, str] = {}
    for root in filter(None, map(locate, (*CLASSES, *EXTRAS))):
        with _no_collection():
            texts |= {_normalize(text): text for text in read_texts(root)}
    keyed = sorted((_digest(key), text) for key, text in texts.items())
    return [text for digest, text in keyed if part_of(digest) == "pretrain"]


def locate(name: str) -> Path | None:
    """Return the folder of a source's .py files, found without importing it, or None."""
    if name == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None


def read_texts(root: Path) -> Iterator[str]:
    """Yield cleaned texts of 6 to 40 words under `root`, in an order that depends only on relative paths.

    Files rich in docstrings come first. Files that cannot be read or parsed by this interpreter are skipped.
    """
    later = []
    for path in _files(root):
        with contextlib.suppress(OSError):
            code = path.read_bytes()
            if code.count(b'"""') / 2 < DENSE * len(code) / 1000:
                later.append(path)
            else:
                yield from _clean_all(code)
    for path in later:
        with contextlib.suppress(OSError):
            yield from _clean_all(path.read_bytes())


def clean(docstring: str) -> str:
    """Return the first 40 words of prose in a docstring, in lower case, with the names of sources masked."""
    words: list[str] = []
    for line in map(str.strip, docstring.lower().splitlines()):
        if line.startswith((">>>", "...", "```", "..")) or _HEADING.match(line) or not _WORD.search(line):
            continue
        words += line.split()
        if len(words) > 2 * MAX_WORDS:  # less than the other half is removed below
            break
    prose = " ".join(words[: 2 * MAX_WORDS])
    prose = _FIELD.sub("", _ROLE.sub(r"\1", _URL.sub("", prose)))
    prose = _NAME.sub(MASK, re.sub(r"[`*|]+", "", prose))
    return " ".join(prose.split()[:MAX_WORDS])


def part_of(digest: str) -> str:
    """Return the part of a text from its SHA-256 (hexadecimal)."""
    place = int(digest[:12], 16) % sum(PARTS.values())
    for part, share in PARTS.items():
        if place < share:
            return part
        place -= share
    raise AssertionError("the shares cover every remainder")


def _read_quota(root: Path) -> dict[str, str]:
    """Return texts by their normalized words, until every part of the task has its quota and 5 % more."""
    texts: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    with _no_collection():
        for text in read_texts(root):
            key = _normalize(text)
            if key in texts:
                continue
            texts[key] = text
            sizes[part_of(_digest(key))] += 1
            # The extra 5 % replace texts that belong to two sources.
            if all(sizes[part] >= 1.05 * quota for part, quota in QUOTAS.items()):
                break
    return texts


def _files(root: Path) -> list[Path]:
    """Return the .py files under `root` outside `SKIPPED`, ordered by the hash of their relative paths."""
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        paths += [
            Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("test_")
        ]
    return sorted(paths, key=lambda path: _digest(path.relative_to(root).as_posix()))


def _clean_all(code: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the parsed code
            tree = ast.parse(code)
    except (
        SyntaxError,
        ValueError,
        RecursionError,
    ):  # newer syntax, wrong encoding, null bytes, deep nesting
        return
    # Functions inside functions are rarely documented: looking in bodies of modules and classes only is 4x faster.
    stack: list[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = [tree]
    while stack:
        node = stack.pop()
        text = clean(ast.get_docstring(node, clean=False) or "")
        if text.count(" ") >= MIN_WORDS - 1 and _normalize(text):
            yield text
        stack += [
            n for n in node.body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def _normalize(text: str) -> str:
    return " ".join(_TOKEN.findall(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector, which takes a third of the time and finds nothing in syntax trees."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
