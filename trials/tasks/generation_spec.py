"""The section `generation` of a task: how text is generated for the scores of generated text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.percentages import parse_percentage
from trials.kinds.generation import TEXT_METRICS
from trials.kinds.registry import KINDS

TEACHER_FORCED = "teacher_forced_exact_match"
"""What `exact_match` was called while a sweep had no generation: data of versions 1 and 2."""


def _read_samples(value: object) -> object:
    """Return a number of examples, or their share as a float."""
    if value == "all":
        return 1.0
    found = parse_percentage(value) if isinstance(value, str) else value
    is_count = isinstance(found, int) and not isinstance(found, bool) and found >= 1
    if is_count or (isinstance(found, float) and 0 < found <= 1):
        return found
    fix = "Write a number of examples such as 200, a share such as 25%, or all."
    raise InvalidInputError(
        Problem("task.generation.samples", f"{value!r} is neither a number nor a share", fix)
    )


class GenerationSpec(BaseModel):
    """How text is generated for the scores of generated text.

    The settings of the model's own `generation_config` are not used, except for its token ids.

    Args:
        max_new_tokens: Tokens after which generation ends, if no end of text or of turn ends it.
        samples: Examples of each held-out split for which text is generated: a number, a share such as `25%`, or
            `all`. They are the same for every trial.
        do_sample: Whether tokens are sampled; otherwise each token is the most probable one.
        temperature: Divisor of the logits in sampling.
        top_p: Probability of the most probable tokens from which one is sampled.
        num_beams: Beams of beam search; 1 for none.
        batch_size: Prompts that are continued at the same time.
        seed: Seed of sampling, which is the same for every trial.
        metrics: Scores of the generated text: exact_match, rouge1, rouge2, rougeL, bleu, chrf. By default
            exact_match, and those that the metric and the objectives name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(default=64, ge=1, strict=True)
    samples: Annotated[int | float, BeforeValidator(_read_samples)] = 200
    do_sample: bool = False
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    num_beams: int = Field(default=1, ge=1, strict=True)
    batch_size: int = Field(default=16, ge=1, strict=True)
    seed: int = Field(default=0, ge=0, strict=True)
    metrics: tuple[str, ...] = ("exact_match",)

    @model_validator(mode="after")
    def _consistent(self) -> GenerationSpec:
        problems = [
            Problem(
                "task.generation.metrics",
                f"{name!r} does not score generated text",
                did_you_mean(name, TEXT_METRICS),
            )
            for name in self.metrics
            if name not in TEXT_METRICS
        ]
        for name in ("temperature", "top_p"):
            if not self.do_sample and getattr(self, name) != 1:
                what = f"{getattr(self, name):g} is for sampling, which is off"
                problems.append(
                    Problem(f"task.generation.{name}", what, "Write do_sample: true, or remove it.")
                )
        if problems:
            raise InvalidInputError(problems)
        return self


def with_generation(task: Mapping[str, Any], scores: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a task with the section `generation`, if a score needs generated text.

    Data of versions 1 and 2 have no generation, and their `exact_match` is the teacher-forced one.

    Args:
        task: The fields, as a file gives them.
        scores: The names of the scores that the sweep needs, the task's metric among them.
    """
    fields, names = dict(task), list(scores)
    if is_before_generation(fields):
        if fields.get("metric") == "exact_match":
            fields["metric"] = TEACHER_FORCED
        names = [name for name in names if name != "exact_match"]
    kind, section = KINDS.get(str(fields.get("type"))), fields.get("generation")
    needed = [name for name in TEXT_METRICS if name in names and kind is not None and name in kind.metrics]
    if isinstance(section, GenerationSpec):
        section = section.model_dump()
    if section is True or (section is None and needed):
        section = {}
    if not isinstance(section, Mapping):
        return fields
    given = section.get("metrics") or ("exact_match",)
    if isinstance(given, str):
        given = (given,)
    return {**fields, "generation": {**section, "metrics": tuple(dict.fromkeys((*given, *needed)))}}


def is_before_generation(task: Mapping[str, Any]) -> bool:
    """Return whether a task is of a data version in which `exact_match` is teacher-forced."""
    return task.get("data_version") in (1, 2)


def generation_problems(task_type: str, metrics: Sequence[str], *, is_plain: bool) -> list[Problem]:
    """Return why a task cannot have the section `generation`.

    Args:
        task_type: The type of the task.
        metrics: The scores of such a task.
        is_plain: Whether the data are plain text.
    """
    if not any(name in TEXT_METRICS for name in metrics):
        return [Problem("task.generation", f"{task_type} has no scores of generated text", "Remove it.")]
    if is_plain:
        fix = "Name prompt and completion, or use a score such as eval_loss or perplexity."
        return [Problem("task.generation", "plain text has no prompts to continue", fix)]
    return []


def pair_problems(fields: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the columns of a task whose encoder reads prompts and whose decoder completions.

    Args:
        fields: The columns by field of the task.
    """
    named = ("prompt", "completion")
    problems = [
        Problem(f"task.{name}", "missing", "Give both prompt and completion, columns or templates.")
        for name in named
        if not fields[name]
    ]
    return problems + [
        Problem(f"task.{name}", "is not for seq2seq", "Remove it; name prompt and completion.")
        for name, value in fields.items()
        if value and name not in named
    ]
