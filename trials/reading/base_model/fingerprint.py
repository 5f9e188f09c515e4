"""Fingerprints of a base model and its tokenizer: whether they are still those of the search."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..fingerprint import Fingerprint
from ..images import ImageReader
from ..tables.errors import DataError
from .weights import weights_digest

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


def model_fingerprint(
    name: str, tokenizer: Any, task_type: str, *, revision: str | None = None, has_code: bool = False
) -> Fingerprint:
    """Return the fingerprint of a base model and its tokenizer.

    A model of the hub is known by its commit, a folder by its configuration and weights, wherever the folder is.

    Args:
        name: The folder of the model, or its name on the hub; it has been read on this machine.
        tokenizer: The model's tokenizer.
        task_type: The type of the task; the chat template counts for causal-lm and preference only.
        revision: The revision of a model of the hub.
        has_code: Whether code that comes with the model is run.

    Raises:
        DataError: The folder's files cannot be read.
    """
    found: Fingerprint = {"tokenizer": tokenizer_fingerprint(tokenizer, task_type)}
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if (commit := hub_commit(name, revision)) is not None:
            found["commit"] = commit
        return found
    try:
        found |= {"configuration": _configuration(folder, has_code=has_code)}
        if (weights := weights_digest(folder)) is not None:
            found["weights"] = weights
    except (OSError, ValueError) as error:
        raise DataError(f"{name!r} cannot be read ({error})", "Save the model again.") from error
    return found


def tokenizer_fingerprint(tokenizer: Any, task_type: str) -> Fingerprint:
    """Return the fingerprint of a tokenizer by what it does, so that another version of its library keeps it.

    Args:
        tokenizer: The tokenizer.
        task_type: The type of the task; the chat template counts for causal-lm and preference only.
    """
    if isinstance(tokenizer, ImageReader):
        return {"processor": tokenizer.digest()}
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
    if task_type in ("causal-lm", "preference") and tokenizer.chat_template is not None:
        template = json.dumps(tokenizer.chat_template, sort_keys=True)
        found["template"] = _digest(template.replace("\\r\\n", "\\n"))
    return found


def hub_commit(name: str, revision: str | None = None) -> str | None:
    """Return the commit of a hub model that this machine has read; None for a folder, or if it is not known."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).expanduser().is_dir():
        return None
    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:  # the name is not that of a repository
        return None
    # The cache has one folder per commit: models--OWNER--NAME/snapshots/COMMIT/config.json.
    return Path(found).parent.name if isinstance(found, str) else None


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
    if "processor" in before or "processor" in now:
        is_same = before.get("processor") == now.get("processor")
        return [] if is_same else ["the image processor makes other pixels"]
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
