"""Laws hp*(cost) from the trials of a search whose optima are known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from search_spaces.errors import InvalidInputError
from surrogates.laws import NoLaw, SearchLaw, search_laws

SCALES = {"rate": "log", "dropout": "linear", "momentum": "logit"}


def search(
    seed: int = 0, n: int = 80, exponent: float = -0.3, noise: float = 0.01, span: float = 300.0
) -> pd.DataFrame:
    """Draw random trials; the best rate is 0.01 cost^exponent, dropout has no effect, the best momentum is 0.9."""
    rng = np.random.default_rng(seed)
    cost = np.exp(rng.uniform(0.0, np.log(span), n))
    rate = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), n))
    momentum = 1.0 / (1.0 + np.exp(-rng.uniform(0.0, 5.0, n)))
    away = np.log(rate / (0.01 * cost**exponent))
    other = np.log(momentum / (1.0 - momentum)) - np.log(9.0)
    loss = 2.0 * cost**-0.1 + 0.02 * away**2 + 0.05 * other**2 + noise * rng.normal(size=n)
    return pd.DataFrame(
        {"cost": cost, "rate": rate, "dropout": rng.uniform(0, 0.5, n), "momentum": momentum, "loss": loss}
    )


def laws(frame: pd.DataFrame, names: Sequence[str], **options: object) -> dict[str, SearchLaw | NoLaw]:
    found = search_laws(frame, "cost", "loss", SCALES, maximize=False, only=names, **options)  # type: ignore[arg-type]
    return {each.name: each for each in found}


def law(frame: pd.DataFrame, name: str = "rate", **options: object) -> SearchLaw:
    found = laws(frame, [name], **options)[name]
    assert isinstance(found, SearchLaw)
    return found


def test_exponent_and_the_best_value_at_tenfold_cost() -> None:
    found = law(search())
    value, low, high = found.slope()
    assert low < value < high
    assert abs(value + 0.3) < 0.1
    assert found.changes > 0.95
    value, low, high = found.at(3000.0)
    assert abs(np.log(value / (0.01 * 3000.0**-0.3))) < 0.5
    assert value / 3 < low < value < high < 3 * value
    assert found.trials == 80


def test_intervals_cover_the_optimum_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(12):
        exponent = float(np.random.default_rng(seed).normal(0.0, 0.2))
        _, low, high = law(search(seed, 50, exponent, noise=0.05, span=30.0)).at(300.0)
        covered += low <= 0.01 * 300.0**exponent <= high
    assert 8 <= covered <= 12


def test_a_constant_optimum_is_found_constant() -> None:
    found = law(search(exponent=0.0))
    assert found.changes < 0.5
    assert found.moved(0.01, 1.0, 100.0) == pytest.approx(0.01, rel=0.1)


def test_a_value_that_is_good_by_luck_gives_way_to_a_certain_law() -> None:
    found = law(search(exponent=0.0, noise=0.001))
    assert found.moved(0.002, 1.0, 1.0) == pytest.approx(0.002)
    assert 0.002 < found.moved(0.002, 1.0, 1.5) < found.moved(0.002, 1.0, 10.0) < 0.0105
    assert found.scaled(0.002, 1.0, 10.0) == pytest.approx(0.002, rel=0.1)


def test_a_hyperparameter_without_effect_is_flat() -> None:
    found = law(search(), "dropout")
    assert found.is_flat
    assert found.plateau(300.0) == found.tried
    assert found.edge(300.0) == ""
    assert not law(search()).is_flat


def test_logit_scale_stays_within_zero_and_one() -> None:
    value, low, high = law(search(), "momentum").at(3000.0)
    assert 0.0 < low < value < high < 1.0
    assert low < 0.9 < high


def test_moved_follows_the_exponent() -> None:
    found = law(search(noise=0.001))
    assert found.moved(0.01, 1.0, 10.0) == pytest.approx(0.01 * 10**-0.3, rel=0.25)
    assert found.moved(0.01, 5.0, 5.0) == pytest.approx(0.01)


def test_an_optimum_beyond_the_range_is_at_an_edge() -> None:
    frame = search(n=250)
    assert law(frame[frame["rate"] < 6e-4]).edge(10.0) == "upper"
    assert law(frame[frame["rate"] > 2e-2]).edge(300.0) == "lower"
    assert law(frame).edge(300.0) == ""


def test_the_plateau_contains_the_best_value_and_shrinks_with_noise() -> None:
    quiet, noisy = law(search(noise=0.005)), law(search(noise=0.05))
    widths = []
    for found in (quiet, noisy):
        low, high = found.plateau(30.0)
        assert low < found.at(30.0)[0] < high
        widths.append(np.log(high / low))
    assert widths[0] < widths[1]


def test_a_score_may_be_maximized() -> None:
    frame = search()
    [found] = search_laws(frame.assign(score=-frame["loss"]), "cost", "score", {"rate": "log"}, maximize=True)
    [same] = search_laws(frame, "cost", "loss", {"rate": "log"}, maximize=False)
    assert isinstance(found, SearchLaw)
    assert isinstance(same, SearchLaw)
    assert found.at(100.0) == pytest.approx(same.at(100.0))


def test_families_and_options_only_shift_the_loss() -> None:
    frame = search()
    kind = np.where(np.arange(len(frame)) % 3 == 0, "a", "b")
    frame["loss"] += np.where(kind == "a", 1.0, 0.0)
    _, low, high = law(frame.assign(kind=kind), groups=["kind"]).at(3000.0)
    assert low < 0.01 * 3000.0**-0.3 < high
    inactive = frame.assign(kind=kind, rate=frame["rate"].where(kind == "b"))
    found = law(inactive, groups=["kind"])
    assert found.trials == int((kind == "b").sum())


def test_what_sets_the_cost_does_not_hold_itself_fixed() -> None:
    rng = np.random.default_rng(1)
    examples, epochs = np.exp(rng.uniform(4, 9, 150)), np.exp(rng.uniform(-2, 2, 150))
    cost = examples * epochs
    # At a given cost, the best number of epochs is 0.5 cost^0.1.
    loss = 3 * cost**-0.1 + 0.05 * np.log(epochs / (0.5 * cost**0.1)) ** 2 + 0.01 * rng.normal(size=150)
    frame = pd.DataFrame({"cost": cost, "examples": examples, "epochs": epochs, "loss": loss})
    found = search_laws(
        frame, "cost", "loss", {"epochs": "log", "examples": "log"}, maximize=False,
        determine_cost=["epochs", "examples"],
    )[0]  # fmt: skip
    assert isinstance(found, SearchLaw)
    _, low, high = found.at(cost.max())
    assert low < 0.5 * cost.max() ** 0.1 < high


def test_outliers_and_failed_runs_hardly_move_the_optimum() -> None:
    frame = search()
    worse = frame["loss"].where(np.arange(len(frame)) % 10 != 0, 50.0)
    _, low, high = law(frame.assign(loss=worse)).at(300.0)
    assert low < 0.01 * 300.0**-0.3 < high
    missing = frame["loss"].where(np.arange(len(frame)) % 10 != 0)
    assert law(frame.assign(loss=missing)).trials == 72


def test_more_trials_than_a_fit_takes_are_the_best_ones() -> None:
    frame = search(n=260)
    frame.loc[:3, "loss"] = 50.0
    found = law(frame)
    assert found.trials == 256
    assert found.costs == (frame["cost"][4:].min(), frame["cost"][4:].max())


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (search(n=11), "11 finished trials with a value and a score; a law needs 12"),
        (search(span=2.0), "the cost of its trials spans a factor of 2; a law needs 3"),
        (search().assign(rate=0.01), "one value (0.01) in all its trials"),
        (
            search().assign(rate=np.where(np.arange(80) % 2, 0.01, 0.1)),
            "2 different values; an optimum needs 3",
        ),
        (search().assign(loss=1.0), "all its trials have the same score"),
        (search().assign(rate=np.nan), "0 finished trials with a value and a score; a law needs 12"),
    ],
)
def test_reasons_for_no_law(frame: pd.DataFrame, reason: str) -> None:
    found = laws(frame, ["rate"])["rate"]
    assert isinstance(found, NoLaw)
    assert found.reason == reason


def test_a_wrong_table_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cost"):
        laws(search().assign(cost=0.0), ["rate"])
    with pytest.raises(InvalidInputError, match="kind"):
        laws(search(), ["rate"], groups=["kind"])
