"""Fingerprints of a task's data and of a base model: whether a sweep still has what it started with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem
from trials.data.weights import weights_digest
from trials.reading.fingerprint import Fingerprint, split_changes, split_fingerprint
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ModelSpec, TaskSpec, resolve_model

_VOLATILE = ("transformers_version", "_name_or_path")
"""Entries of a model's configuration that change when it is saved again."""
_PROBES = (
    "The quick brown fox didn't jump over 12,345.67 lazy dogs!\n\n  Indented\tline",
    "Ünïcode çafé ŒUVRE ﬁne ½ — “quotes” … 𝔪ath 🙂👩‍💻",
    "中文 日本語テキスト 한국어 العربية हिन्दी Ελληνικά русский",
    "def f(x):\n    return {'a': x**2}  # <b>tags</b> https://example.org/a?b=c",
)
"""Texts whose token ids show how a tokenizer normalizes and splits, which its vocabulary alone does not."""
_WORDS = 200
"""As many tokens of the vocabulary make another such text."""


def file_stamps(task: TaskSpec, model: ModelSpec) -> tuple[tuple[str, int, int], ...]:
    """Return the path, size and time of each local file of the data and of the model's configuration and tokenizer.

    They change when a file is written, and are read at once, so that a cache can tell that it is out of date.
    """
    named = [task.dataset, task.train, task.validation, task.test]
    paths = [Path(each) for name in named for each in ([name] if isinstance(name, str) else name or ())]
    folder = Path(resolve_model(model.name)).expanduser()
    files = [path for path in paths if path.is_file()]
    files += [file for path in paths if path.is_dir() for file in path.rglob("*")]
    files += [file for pattern in ("*.json", "*.txt", "*.jinja", "*.model") for file in folder.glob(pattern)]
    stats = [(str(file), file.stat()) for file in sorted(set(files)) if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def data_fingerprint(splits: Mapping[str, Rows], task: TaskSpec) -> dict[str, Fingerprint]:
    """Return the fingerprint of each split of a task, as it was read and carved."""
    fields = task.model_dump()
    return {name: split_fingerprint(rows, task.columns, fields) for name, rows in splits.items()}


def model_fingerprint(model: ModelSpec, tokenizer: Any, task: TaskSpec) -> Fingerprint:
    """Return the fingerprint of a base model and its tokenizer.

    A model of the hub is known by its commit, a folder by its configuration and weights, wherever the folder is.

    Args:
        model: The base model, which has been read on this machine.
        tokenizer: The model's tokenizer.
        task: The task; the chat template counts for a language model only.

    Raises:
        InvalidInputError: The folder's files cannot be read.
    """
    found: Fingerprint = {"tokenizer": tokenizer_fingerprint(tokenizer, task)}
    folder = Path(resolve_model(model.name)).expanduser()
    if not folder.is_dir():
        if (commit := hub_commit(model)) is not None:
            found["commit"] = commit
        return found
    try:
        found |= {"configuration": _configuration(folder, has_code=model.trust_remote_code)}
        if (weights := weights_digest(folder)) is not None:
            found["weights"] = weights
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            Problem("model", f"{model.name!r} cannot be read ({error})", "Save the model again.")
        ) from error
    return found


def tokenizer_fingerprint(tokenizer: Any, task: TaskSpec) -> Fingerprint:
    """Return the fingerprint of a tokenizer by what it does, so that another version of its library keeps it."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    words = " ".join(token for token, _ in vocabulary[:: len(vocabulary) // _WORDS + 1])
    texts = [*_PROBES, words, words.upper()]
    special = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if name != "pad_token"
    }
    found = {
        "vocabulary": _digest("\n".join(f"{number} {token}" for token, number in vocabulary)),
        "size": len(vocabulary),
        "special": {**special, "pad_token": str(tokenizer.pad_token)},
        "splitting": _digest(json.dumps([tokenizer(text, verbose=False)["input_ids"] for text in texts])),
    }
    if task.type == "causal-lm" and tokenizer.chat_template is not None:
        template = json.dumps(tokenizer.chat_template, sort_keys=True)
        found["template"] = _digest(template.replace("\\r\\n", "\\n"))
    return found


def hub_commit(model: ModelSpec) -> str | None:
    """Return the commit of a hub model that this machine has read; None for a folder, or if it is not known."""
    from huggingface_hub import try_to_load_from_cache

    if Path(resolve_model(model.name)).expanduser().is_dir():
        return None
    try:
        found = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    except ValueError:  # the name is not that of a repository
        return None
    # The cache has one folder per commit: models--OWNER--NAME/snapshots/COMMIT/config.json.
    return Path(found).parent.name if isinstance(found, str) else None


def data_changes(before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """Return what changed in the data, in clauses."""
    return [
        change
        for name, split in before.items()
        if name in now
        for change in split_changes(name, split, now[name])
    ]


def model_changes(before: Fingerprint, now: Fingerprint) -> list[str]:
    """Return what changed in a base model and its tokenizer, in clauses; a part that one side lacks is unknown."""
    found = []
    if _differ("commit", before, now):
        found.append(f"the commit is {now['commit'][:12]} and was {before['commit'][:12]}")
    if _differ("configuration", before, now):
        found.append("the configuration changed (config.json)")
    if _differ("weights", before, now):
        found.append("the weights changed")
    return found + _tokenizer_changes(before["tokenizer"], now["tokenizer"])


def _tokenizer_changes(before: Fingerprint, now: Fingerprint) -> list[str]:
    found = []
    if before["size"] != now["size"]:
        found.append(f"the tokenizer's vocabulary has {now['size']:,} tokens and had {before['size']:,}")
    elif before["vocabulary"] != now["vocabulary"]:
        found.append("the tokenizer's vocabulary changed")
    for token in dict.fromkeys([*before["special"], *now["special"]]):
        was, present = before["special"].get(token), now["special"].get(token)
        if was != present:
            found.append(f"the tokenizer's {token} is {present!r} and was {was!r}")
    if before.get("template") != now.get("template"):
        found.append("the tokenizer's chat template changed")
    if not found and before["splitting"] != now["splitting"]:
        found.append("the tokenizer splits texts in another way")
    return found


def _differ(part: str, before: Fingerprint, now: Fingerprint) -> bool:
    return part in before and part in now and bool(before[part] != now[part])


def _configuration(folder: Path, *, has_code: bool) -> str:
    """Return a digest of a model's configuration, and of its code if it comes with code that is run."""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parts = [json.dumps({k: v for k, v in fields.items() if k not in _VOLATILE}, sort_keys=True)]
    if has_code:
        parts += [path.name + path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]
    return _digest("\n".join(parts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
