"""`priors` of a sweep file: short forms, suggestions, and what a model changes about a marginal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autotune.sampler.prior import STRENGTH, Near, Weights
from autotune.sweep.prior_spec import Priors, bound_prior, read_priors
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, parse_sweep
from search_spaces.errors import InvalidInputError
from search_spaces.language.yaml_io import parse_yaml
from search_spaces.parameters.structured import TargetSubset
from search_spaces.parameters.types import Categorical, Float, TopLayers
from search_spaces.space import SearchSpace

SWEEP: dict[str, Any] = {
    "name": "x",
    "model": "tiny",
    "task": {"train": "train.tsv", "text": "sentence", "label": "label"},
    "space": {"families": ["lora", "ia3"]},
    "budget": {"trials": 5},
}


def sweep(priors: object, **more: Any) -> Sweep:
    return parse_sweep({**SWEEP, "priors": priors, **more}, check_files=False)


def test_short_forms_are_spelled_out_and_survive_the_sweep_file() -> None:
    found = sweep(
        {
            "lora.learning_rate": {"center": "3e-4", "spread": 3},
            "family": {"lora": 3},
            "schedule": "cosine",
            "epochs": {"center": 2.5, "spread": 1},
            "strength": 5,
        }
    )
    assert found.priors is not None
    assert found.priors.strength == 5.0
    assert found.priors.marginals == {
        "lora.learning_rate": {"center": 3e-4, "spread": 3.0},
        "family": {"lora": 3.0},
        "schedule": {"cosine": 4.0},
        "epochs": {"center": 2.5, "spread": 1.0},
    }
    assert parse_sweep(as_mapping(found), check_files=False).priors == found.priors
    assert "priors" not in as_mapping(sweep(None))


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        (5, "priors: 5 is not a mapping"),
        ({"lora.lerning_rate": {"center": 3e-4, "spread": 3}}, "Did you mean 'lora.learning_rate'"),
        ({"family": {"lra": 3}}, "priors.family.lra: 'lra' is not a choice. Did you mean 'lora'"),
        ({"family": {"lora": -3}}, "priors.family.lora: the weight -3.0"),
        ({"schedule": "cosin"}, "priors.schedule.cosin: 'cosin' is not a choice. Did you mean 'cosine'"),
        ({"epochs": 3}, "Write epochs: {center: 3, spread: 1}"),
        ({"epochs": {"centre": 3, "spread": 1}}, "priors.epochs.centre: is not known. Did you mean 'center'"),
        ({"epochs": {"center": 3}}, "priors.epochs.spread: is missing"),
        ({"epochs": {"center": 3, "spread": "wide"}}, "priors.epochs.spread: 'wide' is not a number"),
        ({"lora.learning_rate": {"center": 30, "spread": 3}}, "the center 30.0 is outside"),
        ({"lora.learning_rate": {"center": 3e-4, "spread": 0.5}}, "it is a factor, such as 3"),
        ({"family": {}}, "priors.family: gives neither a center nor weights"),
        ({"family": None}, "priors.family: gives neither a center nor weights"),
        ({"strength": 0}, "priors.strength: 0 is not a number above 0"),
    ],
)
def test_mistakes_are_named_with_their_fix(priors: object, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        sweep(priors)
    assert words in str(caught.value)


@pytest.mark.parametrize("sampler", ["tpe", {"name": "pareto", "strategy": "carbs"}])
def test_samplers_without_priors_are_refused(sampler: object) -> None:
    with pytest.raises(InvalidInputError, match=r"priors: .* does not take priors"):
        sweep({"family": "lora"}, sampler=sampler)


def test_the_choice_of_the_model_takes_a_prior() -> None:
    found = sweep({"model": "small"}, model={"choices": ["small", "base"]})
    assert found.priors is not None
    assert found.priors.marginals == {"model": {"small": 4.0}}
    with pytest.raises(InvalidInputError, match="Did you mean 'small'"):
        sweep({"model": "smal"}, model={"choices": ["small", "base"]})


def test_amounts_of_data_take_a_number_of_examples() -> None:
    space = {"families": ["lora"], "parameters": {"train_samples": {"low": "10%", "high": "100%"}}}
    assert sweep({"train_samples": {"center": 2000, "spread": 2}}, space=space).priors is not None
    with pytest.raises(InvalidInputError, match="takes a center in examples"):
        sweep({"train_samples": {"center": "50%", "spread": 2}}, space=space)


def test_the_strength_is_that_of_the_sampler_by_default() -> None:
    assert Priors().strength == STRENGTH


def test_the_example_of_the_guide_is_valid() -> None:
    guide = Path(__file__).parents[4] / "docs" / "guides" / "search-spaces.md"
    (example,) = re.findall(
        r"^```text\n(priors:.*?)^```$", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    found = sweep(parse_yaml(example)["priors"]).priors
    assert found is not None
    assert found.marginals["schedule"] == {"cosine": 4.0}


def test_what_the_model_changes_is_noted() -> None:
    space = SearchSpace(
        (
            TopLayers(name="layers"),
            TargetSubset(name="targets"),
            Categorical(name="family", choices=("lora", "ia3")),
            Categorical(name="schedule", choices=("cosine",)),
            Float(name="lr", low=1e-5, high=1e-2, log=True),
        )
    ).bind(6, ["q", "v"])
    priors = read_priors(
        {
            "layers": {"center": 24, "spread": 2},
            "targets.q": True,
            "targets.gate": True,
            "family": {"adalora": 2, "lora": 3},
            "schedule": "cosine",
            "lr": {"center": 3e-4, "spread": 3},
        }
    )
    assert priors is not None
    prior, notes = bound_prior(priors, space)
    assert prior.marginals == {
        "layers": Near(center=6, spread=2.0),
        "targets.q": Weights({True: 4.0}),
        "family": Weights({"lora": 3.0}),
        "lr": Near(center=3e-4, spread=3.0),
    }
    assert notes == [
        "priors.layers: the center 24 is outside 1 to 6 on this model, so 6 is used",
        "priors.targets.gate has no effect: the space of this model does not have the parameter",
        "priors.family: this model does not offer adalora",
        "priors.schedule has no effect: the parameter has one value",
    ]


def test_a_marginal_that_only_the_model_can_refuse_is_refused_then() -> None:
    space = SearchSpace((TargetSubset(name="targets"),)).bind(6, ["q", "v"])
    priors = read_priors({"targets.q": {"center": 3, "spread": 1}})
    assert priors is not None
    with pytest.raises(InvalidInputError, match=r"priors\.targets\.q: its values have no order"):
        bound_prior(priors, space)
