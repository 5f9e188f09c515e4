"""The answers of calibrations on this machine, in a JSON file of the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autotune.calibrate.candidates import Candidate, other_attention
from autotune.calibrate.layout import Layout
from autotune.calibrate.question import Answer, Question

_MOST = 200
"""The answers that are kept, the latest ones."""


def cache_file() -> Path:
    """Return the file of the answers, which need not exist."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "autotune" / "calibration.json"


def read_answer(question: Question) -> Answer | None:
    """Return the answer that an earlier calibration found; None without one that is possible here."""
    stored = _read().get(question.digest)
    try:
        answer = _answer(stored) if isinstance(stored, Mapping) else None
    except (KeyError, TypeError, ValueError):
        return None
    if answer is None:
        return None
    model = question.sweep.model
    others = (other_attention(candidate, model) for candidate in question.candidates)
    if answer.candidate not in (*question.candidates, *others):
        return None
    if answer.chunk_tokens not in (question.chunk_sizes or (None,)):
        return None
    possible = [
        layout
        for division in question.layouts.divided
        for layout in (division, *question.layouts.packs(division))
    ]
    return answer if answer.layout in possible and answer.rate > 0 else None


def keep_answer(question: Question, answer: Answer) -> None:
    """Write an answer; where the folder cannot be written, the next sweep is calibrated again."""
    file = cache_file()
    answers = {**_read(), question.digest: {**asdict(answer), "why": list(answer.why)}}
    kept = dict(list(answers.items())[-_MOST:])
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, suffix=".json", delete=False
        ) as written:
            json.dump(kept, written, indent=1)
        os.replace(written.name, file)


def _read() -> dict[str, Any]:
    """Return the stored answers; none if the file is missing or damaged."""
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _answer(stored: Mapping[str, Any]) -> Answer:
    return Answer(
        candidate=Candidate(**stored["candidate"]),
        layout=Layout(**stored["layout"]),
        rate=float(stored["rate"]),
        why=tuple(str(clause) for clause in stored["why"]),
        chunk_tokens=stored["chunk_tokens"],
    )
