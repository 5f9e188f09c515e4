"""Rungs that are smaller base models, with a fake executor: costs, transferred configurations, and errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from autotune.cli.status import overview, overview_json
from autotune.engine.sweep_run import SweepInterruptedError
from autotune.figures.validation_curves import plot_curves
from autotune.ladder.promotion import PromotionScheduler
from autotune.ladder.rungs import Ladder
from autotune.ledger.folder_reader import FolderReader
from autotune.prepare.prepared_sweep import prepare
from autotune.report.page import report_html
from autotune.results.ladder_view import read_scheduler
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.comparison import search_differences
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, load_sweep, parse_sweep
from search_spaces.errors import InvalidInputError
from search_spaces.transfer import transfer_configuration
from tests.support.ladders import what_was_found, with_config
from tests.support.sweeps import SPACE, Watcher, fake_run, small_sweep
from trials.records import PartialRun
from trials.tasks.model_spec import model_labels

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture(scope="module")
def small(tiny_model: Callable[[str], Path]) -> Path:
    """A base with half the layers of the sweep's own."""
    return tiny_model("bert")


@pytest.fixture(scope="module")
def smaller(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of one layer."""
    return with_config(small, tmp_path_factory.mktemp("smaller") / "one", num_hidden_layers=1)


@pytest.fixture(scope="module")
def on_bases(deep_model: Path, small: Path, reviews: Path) -> Callable[..., Sweep]:
    def make(**changes: Any) -> Sweep:
        ladder = {"of": "base", "bases": [str(small)], **changes.pop("ladder", {})}
        given: dict[str, Any] = {"budget": {"trials": 6}, "confirm": {"seeds": 0}, **changes}
        return small_sweep(deep_model, reviews, ladder=ladder, **given)

    return make


@pytest.fixture(scope="module")
def whole(on_bases, tmp_path_factory) -> SweepTables:
    """A sweep, uninterrupted."""
    return fake_run(on_bases(), tmp_path_factory.mktemp("whole") / "out")


def test_the_cost_is_the_sum_over_the_bases(whole, on_bases):
    assert set(whole.trials["status"]) == {"complete", "paused"}
    prepared = prepare(on_bases())
    ((name, there),) = prepared.bases.bases.items()
    for row in whole.trials.itertuples():
        full = prepared.costs(row.config).train_flops
        below = there.costs(
            transfer_configuration(row.config, whole.sweep.space, prepared.shape, there.shape)
        ).train_flops
        assert 0 < below < full
        complete = row.status == "complete"
        assert row.share == pytest.approx(below / full + complete)
        assert prepared.share(PartialRun("base", 0.5, name), row.config) == below / full
        assert prepared.share(None, row.config) == 1.0
    assert set(whole.trials["cost.train_flops"]) == {
        prepared.costs(c).train_flops for c in whole.trials["config"]
    }
    flops = whole.trials["cost.train_flops"]
    assert whole.ladder is not None
    assert whole.ladder.used == pytest.approx((flops * whole.trials["share"]).sum() / flops.sum())


def shapes(results: SweepTables, small: Path) -> tuple[Any, Any]:
    prepared = prepare(results.sweep)
    return prepared.shape, prepared.bases.bases[str(small)].shape


def test_every_display_labels_the_rungs(whole, small, deep_model):
    ladder = whole.ladder
    assert ladder is not None
    (cost,) = whole.sweep.ladder.costs
    assert 0.4 < cost < 0.6  # half the layers
    names = model_labels([str(small), str(deep_model)])
    words = [f"{100 * cost:.3g} % ({names[0]})", f"100 % ({names[1]})"]
    assert [row.share for row in ladder.rows] == words
    assert set(whole.trials["rung"]) == set(words)
    assert set(whole.trials.loc[whole.trials["status"] == "paused", "rung"]) == {words[0]}
    assert overview_json(whole)["ladder"]["rungs"][0]["base"] == str(small)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(overview(whole))
    assert f"6 trained on {words[0]}" in capture.get()
    assert f"<td>{words[0]}</td>" in report_html(whole)
    hovers = [text for trace in plot_curves(whole).data for text in trace.hovertext]
    assert any(words[0] in text for text in hovers)
    assert any(words[1] in text for text in hovers)


@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_resumed_sweep_gives_the_results_of_an_uninterrupted_one(after, whole, on_bases, tmp_path):
    def stop(ended: int) -> None:
        if ended == after:
            raise KeyboardInterrupt

    with pytest.raises(SweepInterruptedError):
        fake_run(on_bases(), tmp_path / "out", Watcher(stop))
    watcher = Watcher()
    resumed = fake_run(load_sweep(tmp_path / "out" / "sweep.yaml"), tmp_path / "out", watcher)
    assert what_was_found(resumed, "rung") == what_was_found(whole, "rung")
    assert len(watcher.finished) == sum(whole.ladder.reached) - after


ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 2**-8}
"""How far a loss may be from that of another executor, relative to it. A pack cuts the batches into other chunks, and
the gradient of each chunk is rounded to the precision before they are summed: one step of bf16 is 2**-8."""


def test_flops_count_every_base(on_bases, smaller, small, tmp_path):
    ladder = {"bases": [str(smaller), str(small)], "random_share": 1}
    one = fake_run(on_bases(ladder=ladder, budget={"trials": 1}), tmp_path / "one").trials
    assert one["status"].tolist() == ["complete"]
    assert 1.6 < one["share"][0] < 1.9  # a quarter and half the layers, and all of them
    budget = {"flops": 2.5 * float(one["cost.train_flops"].iloc[0])}
    trials = fake_run(on_bases(ladder=ladder, budget=budget), tmp_path / "out").trials
    spent = (trials["cost.train_flops"] * trials["share"]).sum()
    assert budget["flops"] <= spent < 2 * budget["flops"]


def test_a_configuration_unsupported_by_a_base_starts_above_it(on_bases, tiny_model, small, tmp_path):
    deberta = str(tiny_model("deberta"))
    space = {**SPACE, "families": ["head", "prefix"], "parameters": {"epochs": 1, "batch_size": 16}}
    ladder = {"bases": [str(small), deberta], "random_share": 1, "first_rung": {}}
    # As many startup trials as families: there is one with each.
    sampler = {"name": "pareto", "n_startup": 2}
    sweep = on_bases(space=space, ladder=ladder, budget={"trials": 2}, sampler=sampler)
    prepared = prepare(sweep)
    assert any(note.startswith("prefix begins above") for note in prepared.notes)
    results = fake_run(sweep, tmp_path / "out")
    trials = {trial.params["family"]: trial for trial in FolderReader(results.folder, results.sweep).trials()}
    # The smallest base could have the prefix, but the next one could not let it pass.
    assert trials["prefix"].user_attrs["first_rung"] == 2
    assert "rungs" not in trials["prefix"].user_attrs
    assert "first_rung" not in trials["head"].user_attrs
    assert [record["rung"] for record in trials["head"].user_attrs["rungs"]] == [0, 1]
    shares = results.trials.set_index("param.family")["share"]
    assert shares["prefix"] == 1.0
    assert shares["head"] > 1.5
    again = read_scheduler(results.sweep, trials.values())
    assert again.promotion.candidates[trials["prefix"].number].first == 2
    assert results.ladder is not None
    assert results.ladder.reached == (1, 1, 2)


def test_a_base_that_supports_no_family_of_the_space(on_bases, tiny_model):
    with pytest.raises(InvalidInputError, match=r"ladder\.bases\[0\]: with '.*deberta.*', .*prefix"):
        prepare(on_bases(space={"families": ["prefix"]}, ladder={"bases": [str(tiny_model("deberta"))]}))


def test_a_base_without_room_for_all_virtual_tokens(on_bases, small, tmp_path):
    short = with_config(small, tmp_path / "short", max_position_embeddings=24)
    space = {"families": ["prompt"], "parameters": {"epochs": 1, "prompt.tokens": {"low": 1, "high": 20}}}
    bases = prepare(on_bases(space=space, ladder={"bases": [str(short)]})).bases
    few, many = ({**bases.smaller.home.space.defaults()[0], "prompt.tokens": tokens} for tokens in (2, 20))
    assert bases.first(few) == 0
    assert bases.first(many) == 1
    with pytest.raises(InvalidInputError, match=r"ladder\.bases: .*short'"):
        bases.transfer(many, str(short))


def test_texts_that_are_too_long_for_a_base(on_bases, small, tmp_path):
    short = with_config(small, tmp_path / "short", max_position_embeddings=12)
    with pytest.raises(
        InvalidInputError,
        match=r"ladder\.bases\[0\]: with '.*short', the longest example has \d+ tokens, the model has 12 positions\. "
        r"Set max_length to 12 or less\.",
    ):
        prepare(on_bases(ladder={"bases": [str(short)]}))


def test_the_costs_of_the_bases_must_rise(on_bases, small, smaller, deep_model, tmp_path):
    fix = rf"List only those that cost less than '{deep_model}', by rising cost: \[{smaller}, {small}\]\."
    with pytest.raises(InvalidInputError, match=rf"ladder\.bases: '{small}' costs 1\.9\d times .*{fix}"):
        prepare(on_bases(ladder={"bases": [str(small), str(smaller)]}))
    twin = shutil.copytree(deep_model, tmp_path / "twin")
    with pytest.raises(
        InvalidInputError,
        match=rf"'{twin}' costs 1 times what .* costs\. List only those that cost less than '{deep_model}'\.",
    ):
        prepare(on_bases(ladder={"bases": [str(twin)]}))


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ({"of": "base"}, r"ladder\.bases: missing\. Name smaller models, the smallest first, or shares"),
        ({"of": "base", "bases": []}, r"ladder\.bases: \[\] does not fit"),
        ({"of": "base", "bases": "25%"}, r"ladder\.bases: '25%' does not fit\. List smaller models"),
        ({"of": "base", "bases": "bert"}, r"ladder\.bases: 'bert' does not fit\. List smaller models"),
        (
            {"of": "base", "bases": ["bert", 3]},
            r"ladder\.bases\[1\]: 3 does not fit\. Write a hub id, a folder",
        ),
        ({"of": "base", "bases": ["bert", "bert"]}, r"ladder\.bases\[1\]: 'bert' is there already"),
        ({"bases": ["bert"]}, r"ladder\.bases: has an effect only with of: base\. Add of: base"),
        ({"of": "data", "costs": [0.5]}, r"ladder\.costs: has an effect only with of: base"),
        (
            {"of": "base", "bases": ["bert"], "min": 0.5},
            r"ladder\.min: 0\.5 has no effect where each base model is a rung",
        ),
        ({"of": "base", "bases": ["bert"], "eta": 3}, r"ladder\.eta: 3 has no effect where .*\. Remove it\."),
        ({"of": "base", "bases": ["bert"], "costs": [2]}, r"ladder\.costs: \[2\] does not fit\. Remove it"),
        ({"of": "base", "bases": ["./nowhere"]}, r"ladder\.bases\[0\]: there is no folder '.*nowhere'"),
        ({"of": "bases"}, r"ladder\.of: 'bases' does not fit\. Did you mean 'base'\?"),
    ],
)
def test_problems_of_the_ladder_are_reported(ladder, message, small, reviews):
    with pytest.raises(InvalidInputError, match=message):
        small_sweep(small, reviews, ladder=ladder)


def test_the_sweeps_own_model_among_the_bases_is_refused(small, reviews):
    with pytest.raises(
        InvalidInputError, match=r"ladder\.bases\[0\]: .* is the sweep's own model\. Remove it"
    ):
        small_sweep(small, reviews, ladder={"of": "base", "bases": [str(small)]})


def test_paths_of_bases_are_relative_to_the_sweep_file(on_bases, small, smaller):
    given = {**as_mapping(on_bases()), "ladder": {"of": "base", "bases": [small.name, "owner/on-the-hub"]}}
    sweep = parse_sweep(given, small.parent)
    assert sweep.ladder is not None
    assert sweep.ladder.bases == (str(small), "owner/on-the-hub")


def test_a_resolved_sweep_is_the_same_search(whole, on_bases, smaller):
    resolved = load_sweep(whole.folder / "sweep.yaml")
    assert resolved.ladder is not None
    assert resolved.ladder.costs is not None
    assert (resolved.ladder.min, resolved.ladder.eta) == (None, None)
    assert search_differences(resolved, on_bases()) == []
    other = on_bases(ladder={"bases": [str(smaller)]})
    assert search_differences(resolved, other) == ["ladder.bases[0]"]
    with pytest.raises(InvalidInputError, match=r"already holds another sweep: ladder\.bases\[0\] differ"):
        fake_run(other, whole.folder)


def test_the_bias_of_a_base_is_modeled():
    """Scores on the small base are far too bad, by much the same for all: at the top that is taken off again."""
    rng = np.random.default_rng(0)
    promotion = PromotionScheduler(Ladder.of_rungs((0.12, 1.0), share=0.5), [False, True], seed=0)
    final = rng.normal(0.5, 0.1, 20)
    for number, score in enumerate(final):
        promotion.add(number, 0)
        here = np.array([score + 0.3 + rng.normal(0, 0.01), 100.0])
        promotion.tell(number, 0, here, [[(0.12, y)] for y in here])
    for number in np.argsort(final)[:10].tolist():
        there = np.array([final[number], 100.0])
        promotion.tell(number, 1, there, [[(1.0, y)] for y in there])
    for number in np.argsort(final)[10:].tolist():
        projected = promotion.project(number)
        assert projected is not None
        values, variances = projected
        assert values[0] == pytest.approx(final[number], abs=0.05)
        assert values[1] == 100.0
        assert 0.001 < variances[0] ** 0.5 < 0.1
        assert variances[1] == 0
    # No candidate has the loss there that the front has at the top, and yet one of two may reach the front.
    for number, score in ((20, final.min() - 0.1), (21, final.max())):
        promotion.add(number, 0)
        here = np.array([score + 0.3, 100.0])
        promotion.tell(number, 0, here, [[(0.12, y)] for y in here])
    assert promotion.may_reach_front(promotion.candidates[20])
    assert not promotion.may_reach_front(promotion.candidates[21])


def test_names_are_short_where_they_differ():
    assert model_labels(["a/bert-tiny", "/models/bert-base"]) == ["bert-tiny", "bert-base"]
    assert model_labels(["/models/tiny/final", "/models/base/final"]) == ["tiny/final", "base/final"]


def test_a_ladder_with_given_rungs():
    ladder = Ladder.of_rungs((0.1, 0.5, 1.0), share=0.5)
    assert (ladder.rungs, ladder.top, ladder.base_share(0)) == ((0.1, 0.5, 1.0), 2, 0.5)
    assert (ladder.min, ladder.max) == (0.1, 1.0)
    for rungs in ((), (1.0, 0.5), (0.5, 0.5)):
        with pytest.raises(ValueError, match="give rising fidelities"):
            Ladder.of_rungs(rungs)
    with pytest.raises(ValueError, match="min"):
        Ladder.of_rungs((0.0, 1.0))
