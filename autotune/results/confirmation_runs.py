"""The runs of a confirmation, read from its study.

They belong to configurations, and the first trial of a configuration represents it. Earlier versions trained a
configuration again for each of its trials: of runs with the same configuration and seed, the first counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from autotune.ledger.ledger import INTERRUPTED, MAX_TRIES
from autotune.trial_attributes import TrialAttributes
from trials.records import Fidelity, TextSample, TrialStatus
from trials.tasks.example_scores import decode_scores

FirstTrials = Mapping[int, int]
"""By trial of the search, the first trial of its configuration; see `estimates.first_trials`."""

ExampleScores = Mapping["RunKey", Mapping[str, NDArray[np.float64]]]
"""By run and metric, the score of each validation example."""

TextSamples = Mapping["RunKey", Sequence[TextSample]]
"""By run, some of the texts that its model generated for validation prompts."""


class RunKey(NamedTuple):
    """A run of a confirmation.

    Args:
        trial: of the search, whose configuration is trained again: the first trial of the configuration.
        seed: of the run.
    """

    trial: int
    seed: int


AS_SEARCH = "as_search"
"""Column of the table of runs: whether a run has the fidelity of the search, so that their scores are comparable."""


def runs_at(trials: Sequence[FrozenTrial], fidelity: Fidelity, search: Fidelity) -> list[FrozenTrial]:
    """Return the runs with one fidelity: a study may hold those of several confirmations.

    Args:
        trials: of the study of a confirmation.
        fidelity: of the runs.
        search: of the search, which is that of a run that says none.
    """
    return [trial for trial in trials if (TrialAttributes(trial).fidelity or search) == fidelity]


def confirmation_table(
    trials: Sequence[FrozenTrial], first: FirstTrials, *, as_search: bool = True
) -> pd.DataFrame:
    """Return one row per complete run: `trial`, `seed`, `elapsed`, `as_search`, `metric.NAME` and `test.NAME`.

    Args:
        trials: of the study of a confirmation.
        first: the trials that represent others.
        as_search: whether the runs have the fidelity of the search.
    """
    rows = [
        {
            "trial": _first(attributes.repeated_trial, first),
            "seed": attributes.seed,
            "elapsed": attributes.elapsed,
            AS_SEARCH: as_search,
            **{f"metric.{name}": value for name, value in result.metrics.items()},
            **{f"test.{name}": value for name, value in result.test_metrics.items()},
        }
        for attributes in map(TrialAttributes, trials)
        if (result := attributes.outcome) is not None and result.status == TrialStatus.COMPLETE
    ]
    if not rows:
        return empty_confirmations()
    return pd.DataFrame(rows).drop_duplicates(["trial", "seed"], ignore_index=True)


def empty_confirmations() -> pd.DataFrame:
    """Return the table of a sweep without confirmation runs."""
    return pd.DataFrame(columns=["trial", "seed", "elapsed"])


def is_as_search(confirmations: pd.DataFrame) -> bool:
    """Return whether confirmation runs have the fidelity of the search; True without a run."""
    return AS_SEARCH not in confirmations or bool(confirmations[AS_SEARCH].all())


def stored_example_scores(trials: Sequence[FrozenTrial], first: FirstTrials) -> ExampleScores:
    """Return the scores per validation example of the complete runs that have them; see `confirmation_table`."""
    return {
        run_key(trial, first): {name: decode_scores(text) for name, text in result.example_scores.items()}
        # Of runs that occur twice, the first is to stay.
        for trial in reversed(trials)
        if (result := TrialAttributes(trial).outcome) is not None
        and result.status == TrialStatus.COMPLETE
        and result.example_scores
    }


def stored_text_samples(trials: Sequence[FrozenTrial], first: FirstTrials) -> TextSamples:
    """Return the generated texts of the complete runs that have some; see `confirmation_table`."""
    return {
        run_key(trial, first): result.text_samples
        # Of runs that occur twice, the first is to stay.
        for trial in reversed(trials)
        if (result := TrialAttributes(trial).outcome) is not None
        and result.status == TrialStatus.COMPLETE
        and result.text_samples
    }


def ended_runs(trials: Sequence[FrozenTrial], first: FirstTrials) -> set[RunKey]:
    """Return the runs that are not trained again: complete, failed, or lost too often; see `confirmation_table`."""
    outcomes = Counter(
        (run_key(trial, first), result.status)
        for trial in trials
        if (result := TrialAttributes(trial).outcome) is not None and result.error != INTERRUPTED
    )
    return {
        run
        for (run, status), count in outcomes.items()
        if status in (TrialStatus.COMPLETE, TrialStatus.FAILED)
        or (status == TrialStatus.LOST and count >= MAX_TRIES)
    }


def run_key(trial: FrozenTrial, first: FirstTrials) -> RunKey:
    """Return which run of the confirmation a trial of its study is; see `confirmation_table`."""
    attributes = TrialAttributes(trial)
    assert attributes.seed is not None, "a run gets its seed when it is proposed"
    return RunKey(_first(attributes.repeated_trial, first), attributes.seed)


def _first(trial: int, first: FirstTrials) -> int:
    return first.get(trial, trial)
