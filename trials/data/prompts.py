"""Notes on prompts: unused columns, prompts with many completions, and the text that is generated after them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, install_hint
from trials.data.notes import Notes, listed
from trials.kinds.generation import PACKAGES, chosen_examples
from trials.kinds.registry import find_kind
from trials.reading.encoding import PROMPT, REFERENCE, Encoded
from trials.reading.forms import Chat, read_example
from trials.reading.messages import is_chat
from trials.reading.tables.errors import RowError
from trials.reading.tables.rows import Rows
from trials.tasks.generation_spec import GenerationSpec
from trials.tasks.specs import GENERATING, TaskSpec

_HELD_OUT = ("validation", "test")
EXTRA = "generation"
"""The extra of this project with the packages that score generated text."""
_SAMPLE = 1_000
"""Rows by which a column is judged to hold text."""
_SPACED = 0.2
"""A column holds text if this share of its strings has white space: names and codes have none."""
_MANY = 0.05
"""A share of rows with ambiguous prompts above which the user is warned."""


def note_prompts(train: Rows, task: TaskSpec, notes: Notes) -> None:
    """Note the columns with text that the task does not use, how prompts are joined, and ambiguous prompts.

    Args:
        train: The rows of the training split.
        task: The task.
        notes: Receives the messages.
    """
    unused = unused_texts(train, task.columns)
    if unused:
        names = listed([repr(name) for name in unused])
        notes.note(f"columns with text that the task does not use: {names}")
    if task.type not in GENERATING:
        return
    for name in ("prompt", "completion"):
        columns = getattr(task, name)
        if isinstance(columns, tuple) and len(columns) > 1:
            named = listed([repr(column) for column in columns])
            notes.note(f"{name}: a blank line joins the texts of {named}, of which empty ones are left out")
    if (
        not task.text and task.type != "preference"
    ):  # several pairs of one prompt do not contradict each other
        _warn_of_shared_prompts(train, task, unused, notes)


def unused_texts(rows: Rows, used: Sequence[str]) -> list[str]:
    """Return the columns with texts, chats or lists that are not among those used."""
    return [name for name in rows.column_names if name not in used and _has_text(rows[name][:_SAMPLE])]


def _has_text(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None and value not in ("", [])]
    if not present:
        return False
    if any(is_chat(value) or isinstance(value, list | Mapping) for value in present):
        return True
    texts = [value for value in present if isinstance(value, str)]
    spaced = sum(any(sign.isspace() for sign in text.strip()) for text in texts)
    return spaced > _SPACED * len(present)


def _warn_of_shared_prompts(rows: Rows, task: TaskSpec, unused: Sequence[str], notes: Notes) -> None:
    answers = defaultdict[str, dict[str, int]](dict)
    for row in rows:
        try:
            prompt, answer = _parts(row, task)
        except RowError:
            continue  # encoding reports it
        answers[prompt][answer] = answers[prompt].get(answer, 0) + 1
    ambiguous = [found for found in answers.values() if len(found) > 1]
    if not ambiguous:
        return
    count, most = sum(sum(found.values()) for found in ambiguous), max(len(found) for found in ambiguous)
    prompts = "1 prompt has" if len(ambiguous) == 1 else f"{len(ambiguous):,} prompts have"
    missing = f"; does the prompt lack {listed([repr(name) for name in unused])}?" if unused else ""
    text = (
        f"train: {prompts} different completions, up to {most:,}, in {count:,} of {len(rows):,} rows, so that the "
        f"prompt does not tell which is right{missing}"
    )
    (notes.warn if count > _MANY * len(rows) else notes.note)(text)


def _parts(row: Mapping[str, Any], task: TaskSpec) -> tuple[str, str]:
    """Return what precedes the last answer of a row, and the answer, as texts that can be compared."""
    example = read_example(row, task.model_dump(), as_chat=True)
    if not isinstance(example, Chat):
        return example.prompt, example.completion
    last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
    before = json.dumps([example.tools, example.messages[:last]], sort_keys=True, default=str)
    return before, json.dumps(example.messages[last], sort_keys=True, default=str)


def note_generation(
    spec: GenerationSpec | None, splits: Mapping[str, Sequence[Encoded]], tokenizer: Any, notes: Notes
) -> None:
    """Note for how many examples text is generated, and how; nothing without generation.

    Args:
        spec: The section of the task.
        splits: The encoded examples by split.
        tokenizer: The model's tokenizer.
        notes: Receives the messages.

    Raises:
        InvalidInputError: A package of a score is not installed, or no example has a prompt.
    """
    if spec is None:
        return
    _check_packages(spec)
    sizes = []
    for name in _HELD_OUT:
        chosen = [splits[name][i] for i in chosen_examples(splits[name], spec.samples)]
        if not chosen:
            what = f"no example of {name} has a prompt within max_length"
            raise InvalidInputError(
                Problem("task.generation", what, "Raise max_length, or check the columns.")
            )
        sizes.append(f"{len(chosen):,} of {len(splits[name]):,} {name} examples")
        _note_left_out(name, splits[name], notes)
        _note_long_references(name, chosen, spec.max_new_tokens, tokenizer, notes)
    notes.note(
        f"generation: {_way(spec)}, at most {spec.max_new_tokens:,} new tokens, for {' and '.join(sizes)}"
    )


def longest_generation(task: TaskSpec, splits: Mapping[str, Sequence[Encoded]]) -> int:
    """Return the most tokens of a prompt and the text that is generated after it; 0 without generation.

    An encoder-decoder reads and writes with different positions.
    """
    if task.generation is None:
        return 0
    examples = [example for name in _HELD_OUT for example in splits[name] if PROMPT in example]
    longest = max((len(example[PROMPT]) for example in examples), default=0)
    new = task.generation.max_new_tokens
    return max(longest, new + 1) if find_kind(task.type).has_decoder else longest + new


def _check_packages(spec: GenerationSpec) -> None:
    problems = []
    for name in spec.metrics:
        module, package = PACKAGES.get(name, ("", ""))
        if module and find_spec(module.partition(".")[0]) is None:
            what = f"{name} needs the package {package}, which is not installed"
            problems.append(Problem("task.generation.metrics", what, f"Run: {install_hint(EXTRA)}"))
    if problems:
        raise InvalidInputError(problems)


def _way(spec: GenerationSpec) -> str:
    if spec.do_sample:
        beams = f", {spec.num_beams} beams" if spec.num_beams > 1 else ""
        return f"sampled (temperature {spec.temperature:g}, top_p {spec.top_p:g}, seed {spec.seed}{beams})"
    return f"beam search ({spec.num_beams} beams)" if spec.num_beams > 1 else "greedy"


def _note_left_out(name: str, examples: Sequence[Encoded], notes: Notes) -> None:
    without = sum(PROMPT not in example for example in examples)
    if without:
        notes.note(
            f"{name}: no text is generated for {without:,} examples whose prompt is empty or reaches max_length"
        )


def _note_long_references(
    name: str, chosen: Sequence[Encoded], limit: int, tokenizer: Any, notes: Notes
) -> None:
    texts = [example[REFERENCE] for example in chosen]
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    longer = sum(len(each) > limit for each in ids)
    if longer:
        notes.note(
            f"{name}: {longer:,} of {len(chosen):,} references have more tokens than max_new_tokens allows "
            f"({max(map(len, ids)):,} at most), so that no generated text can equal them"
        )
