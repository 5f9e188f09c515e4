"""What is said of the generation of text before a sweep starts, and what makes it impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, install_hint
from trials.data.notes import Notes
from trials.kinds.generation import chosen_examples
from trials.kinds.text_scores import PACKAGES
from trials.reading.encoding import PROMPT, REFERENCE, Encoded
from trials.tasks.generation_spec import GenerationSpec

_SPLITS = ("validation", "test")
EXTRA = "generation"
"""The extra of this project with the packages that score generated text."""


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
    for name in _SPLITS:
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


def longest_generation(spec: GenerationSpec | None, splits: Mapping[str, Sequence[Encoded]]) -> int:
    """Return the most tokens of a prompt and the text that is generated after it; 0 without generation."""
    if spec is None:
        return 0
    lengths = [len(example.get(PROMPT, ())) for name in _SPLITS for example in splits[name]]
    return max(lengths) + spec.max_new_tokens


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
