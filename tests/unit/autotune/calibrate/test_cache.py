"""The answers of calibrations that are kept per machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import autotune.calibrate.choice as choice_module
from autotune.calibrate.bench import Bench
from autotune.calibrate.cache import cache_file, keep_answer, read_answer
from autotune.calibrate.candidates import Candidate
from autotune.calibrate.choice import VARIABLE, calibrate
from autotune.calibrate.question import Answer, Question
from autotune.estimate.trial_work import random_configurations
from autotune.prepare.bound_base import bind_base
from autotune.sweep.schema import Sweep
from tests.support.sweeps import small_sweep


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = [Candidate("fp32"), Candidate("bf16")]
    monkeypatch.setattr("autotune.calibrate.question.candidates", lambda _: found)


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Sweep:
    return small_sweep(tiny_model("bert"), reviews, executor="packed")


def asked(sweep: Sweep) -> Question:
    own = bind_base(sweep)
    return Question(sweep, own.data, own.costs, random_configurations(own.space, sweep.seed))


def answer_to(question: Question, precision: str = "bf16") -> Answer:
    layout = question.layouts.divided[0]
    return Answer(Candidate(precision), layout, 100.0, ("bf16 is fast",), chunk_tokens=1024)  # type: ignore[arg-type]


def test_an_answer_is_read_again(sweep: Sweep) -> None:
    question = asked(sweep)
    assert read_answer(question) is None
    keep_answer(question, answer_to(question))
    assert read_answer(asked(sweep)) == answer_to(question)


def test_another_question_has_another_answer(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_answer(asked(sweep), answer_to(asked(sweep)))
    assert read_answer(asked(sweep.model_copy(update={"seed": 1}))) is not None
    longer = sweep.model_copy(update={"executor": sweep.executor.model_copy(update={"threads": 7})})
    assert read_answer(asked(longer)) is None
    monkeypatch.setattr("trials.base.processor.instructions", lambda: ("another",))
    assert read_answer(asked(sweep)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{", "["),
        ('"bf16"', '"fp8"'),
        ('"rate": 100.0', '"rate": "x"'),
        ('"processes": 1', '"processes": 64'),
        ('"chunk_tokens": 1024', '"chunk_tokens": 1000'),
        (',\n  "chunk_tokens": 1024', ""),  # of a version that did not choose it
    ],
)
def test_a_damaged_or_impossible_answer_is_none(sweep: Sweep, before: str, after: str) -> None:
    question = asked(sweep)
    keep_answer(question, answer_to(question))
    text = cache_file().read_text()
    assert before in text
    cache_file().write_text(text.replace(before, after))
    assert read_answer(question) is None
    keep_answer(question, answer_to(question))
    assert read_answer(question) == answer_to(question)


def test_a_folder_that_cannot_be_written_is_no_error(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    question = asked(sweep)
    keep_answer(question, answer_to(question))
    assert read_answer(question) is None


def test_a_known_answer_is_used_and_said(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(choice_module, "SHORT", 0.0)
    question, own = asked(sweep), bind_base(sweep)
    keep_answer(question, answer_to(question))
    found = calibrate(sweep, own.data, own.space, own.costs)
    assert found.model.precision == "bf16"
    assert found.executor.chunk_tokens == 1024
    assert found.notes[0].startswith("calibration (of an earlier sweep on this machine): bf16, 1 process")

    def fails(*_: object) -> None:
        raise RuntimeError("measured again")

    monkeypatch.setenv(VARIABLE, "new")
    monkeypatch.setattr(Bench, "seconds_per_example", fails)
    assert "measured again" in calibrate(sweep, own.data, own.space, own.costs).notes[0]
