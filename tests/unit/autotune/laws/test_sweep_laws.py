"""The laws of a sweep: which cost, which scales, the pooled learning rate and the words on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotune.figures.search_laws import law_panels, plot_found_laws
from autotune.laws import sweep_law_text
from autotune.laws.front_trends import choices_along
from autotune.laws.sweep_laws import POOLED_RATE, SweepLaws, laws_of_sweep
from autotune.report.best_hyperparameters import law_section
from autotune.results.sweep_tables import SweepTables
from search_spaces.errors import InvalidInputError
from surrogates.laws import NoLaw, SearchLaw
from tests.support.synthetic import synthetic_results


@pytest.fixture(scope="module")
def results() -> SweepTables:
    return synthetic_results(Path("sweeps/reviews"), objectives=3, trials=60)


@pytest.fixture(scope="module")
def found(results: SweepTables) -> SweepLaws:
    return laws_of_sweep(results)


def test_the_cost_is_the_one_that_spans_more(results: SweepTables, found: SweepLaws) -> None:
    assert found.cost == "trainable_params"
    assert "train_flops one of" in found.why_cost
    wide = results.trials.assign(train_flops=np.geomspace(1e9, 1e15, len(results.trials)))
    assert laws_of_sweep(replace(results, trials=wide)).cost == "train_flops"
    assert laws_of_sweep(results, "train_flops").why_cost == "chosen by --cost"
    with pytest.raises(InvalidInputError, match="accuracy"):
        laws_of_sweep(results, "accuracy")


def test_each_ordered_hyperparameter_has_a_law_or_a_reason(found: SweepLaws) -> None:
    names = {law.name for law in found.laws}
    assert {"batch_size", "lora.rank", "lora.learning_rate", POOLED_RATE} <= names
    assert "family" not in names
    assert "lora.targets" not in names
    batch = found.law_of("batch_size")
    assert isinstance(batch, SearchLaw)
    assert batch.scale == "log"


def test_a_familys_rate_without_a_law_takes_the_pooled_one(found: SweepLaws) -> None:
    own = next(law for law in found.laws if law.name == "lora.learning_rate")
    fewer = replace(found, laws=tuple(law for law in found.laws if law is not own))
    refused = replace(fewer, laws=(*fewer.laws, NoLaw(own.name, 3, "3 finished trials")))
    taken = refused.law_of(own.name)
    assert isinstance(taken, SearchLaw)
    assert taken.name == POOLED_RATE
    assert found.law_of(own.name) is own
    assert found.law_of("unknown") is None


def test_trials_of_cost_zero_are_left_out(found: SweepLaws) -> None:
    assert found.left_out > 0
    assert found.costs[0] > 0


def test_the_table_has_as_many_cells_as_columns(found: SweepLaws) -> None:
    rows = sweep_law_text.rows(found)
    assert len(rows) == len(found.found)
    assert {len(row) for row in rows} == {len(sweep_law_text.columns(found))}
    assert sweep_law_text.missing(found) == ""


def test_a_narrow_cost_says_what_to_add(results: SweepTables) -> None:
    same = results.trials.assign(trainable_params=1000.0, train_flops=1e12)
    narrow = laws_of_sweep(replace(results, trials=same))
    assert not narrow.found
    assert "add train_samples, epochs or model to the space" in sweep_law_text.missing(narrow)
    figure = plot_found_laws(results, narrow)
    assert "spans a factor of 1" in figure.layout.meta["reason"]
    assert law_section(replace(results, trials=same)).rows == ()


def test_a_sweep_without_trials_has_no_laws() -> None:
    empty = laws_of_sweep(synthetic_results(Path("sweeps/empty"), trials=0))
    assert empty.trials == 0
    assert sweep_law_text.summary(empty) == "No finished trial has a score and a positive cost."


def test_panels_show_each_law_up_to_ten_times_the_cost(results: SweepTables, found: SweepLaws) -> None:
    panels = law_panels(results, found)
    assert 0 < len(panels) <= 6
    for panel in panels:
        assert panel.line["cost"].max() == pytest.approx(10 * found.costs[1])
        assert (panel.line["low"] <= panel.line["value"]).all()
        assert (panel.line["value"] <= panel.line["high"]).all()
        assert panel.trials["share"].between(0, 1).all()


def test_choices_along_a_short_front_are_not_compared(results: SweepTables) -> None:
    assert choices_along(results, "trainable_params").trends
    short = replace(results, trials=results.trials.assign(on_front=results.trials.index < 3))
    assert "a trend needs at least 4" in choices_along(short, "trainable_params").reason
