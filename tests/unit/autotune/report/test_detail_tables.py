"""The report on one point: scores by class against those of scikit-learn, and generated texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support

from autotune.report.detail_tables import class_scores, details
from autotune.report.page import render_page
from autotune.results.confirmation_runs import RunKey
from tests.support.confirmations import searched_sweep
from trials.records import TextSample


def test_the_scores_of_each_class_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, 60).astype(float), rng.integers(0, 4, 60).astype(float)
    expected = precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)[:3]
    assert class_scores(truth, predicted, 5) == pytest.approx(np.array(expected).T)


def test_without_confirmation_there_are_no_details() -> None:
    assert details(searched_sweep([1e3, 1e4], [0.8, 0.9])) == (None, [])


def test_generated_texts_of_the_first_confirmation_run_are_shown_and_escaped() -> None:
    searched = searched_sweep([1e3], [0.8])
    runs = pd.DataFrame({"trial": [0, 0], "seed": [4, 3], "elapsed": 1.0, "metric.accuracy": [0.7, 0.8]})
    texts = {
        RunKey(0, 4): (TextSample("p", "later", "r"),),
        RunKey(0, 3): (TextSample("1 <b> 2", "x\ny", "z"),),
    }
    results = replace(searched, confirmations=runs, text_samples=texts)
    trial, (table,) = details(results)
    assert (trial, table.rows) == (0, (("1 <b> 2", "x\ny", "z"),))
    assert "seed 3" in table.reading
    empty = dict.fromkeys(("facts", "columns", "points", "figures", "failures"), ())
    page = render_page(title="s", summary="", statuses="", quality="", **empty, detailed=(trial, [table]))
    assert "1 &lt;b&gt; 2" in page
    assert "1 <b> 2" not in page
