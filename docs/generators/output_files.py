"""The reference page of a sweep's folder: its files, and every column of its tables.

The descriptions are written here. A test compares them with the columns of a sweep's tables, so that none is
missing and none is superfluous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from docs.generators.markdown import table


@dataclass(frozen=True)
class Column:
    """A documented column.

    Args:
        name: As in the table; words in capitals stand for the name of an objective, metric, cost or parameter.
        meaning: One line, with unit and range.
    """

    name: str
    meaning: str

    def matches(self, column: str) -> bool:
        """Return whether a column of a table is the one described here."""
        pattern = re.sub(r"[A-Z]{2,}", "@", self.name)
        return re.fullmatch(re.escape(pattern).replace("@", r"[\w.-]+"), column) is not None


FILES = (
    ("sweep.yaml", "the sweep with every default written out; `autotune resume` reads it"),
    ("study.db", "an Optuna study (SQLite): every trial with its parameters, values and attributes"),
    ("start_from.json", "what was carried over from the sweeps of `start_from`, if there are any"),
    ("front.csv", "one row per point of the front"),
    ("trials.parquet", "one row per trial"),
    ("report.html", "figures and tables in one file that opens offline"),
    ("states/", "with a ladder: the checkpoints of trials that wait on a rung"),
)

_OBJECTIVE = Column("OBJECTIVE", "value of each objective as searched, under the objective's name")
_POSTERIOR = Column(
    "posterior.METRIC", "posterior mean of the search's surrogate, where the noise is worth it"
)
_DEVIATION = Column("posterior_sd.METRIC", "its standard deviation")
_PARAMETER = Column("param.PARAMETER", "value of each parameter; empty where it is inactive")

FRONT = (
    Column("trial", "number of the trial"),
    Column(
        "search_runs",
        "number of trials of the configuration in the search; their mean is the value as searched",
    ),
    _OBJECTIVE,
    _POSTERIOR,
    _DEVIATION,
    Column(
        "confirmed.METRIC",
        "mean over the report seeds on validation data, for each score among the objectives",
    ),
    Column(
        "confirmed.METRIC.low",
        "lower end of its 95 % t interval within the metric's range, with the noise pooled over the points; "
        "empty if the noise is unknown",
    ),
    Column("confirmed.METRIC.high", "upper end of that interval"),
    Column("test.METRIC", "mean over the same runs on test data"),
    Column("test.METRIC.low", "lower end of its 95 % t interval"),
    Column("test.METRIC.high", "upper end of that interval"),
    Column(
        "estimate.METRIC",
        "mean of these runs with the search as one further run at most; it decides the front",
    ),
    Column("report_seeds", "number of confirmation runs; 0 for a point that was not confirmed"),
    Column("cost.COST", "costs that are not objectives; `cost.head_params` are the parameters of the head"),
    _PARAMETER,
)

TRIALS = (
    Column("trial", "number of the trial, from 0"),
    Column("status", "`complete`, `paused`, `stopped`, `pruned`, `failed`, `lost` or `running`"),
    Column("started", "time at which it started"),
    Column("finished", "time at which it ended"),
    Column("elapsed", "wall time of the search when it ended, in seconds, over all sessions"),
    Column("seconds", "wall time from its start to its end, in seconds, other trials running beside it"),
    Column("seed", "its random seed"),
    Column("origin", "what gave the configuration, such as `try[0]`; missing if the sampler proposed it"),
    Column("error", "message of a failed trial"),
    Column("failure", "kind of its error: `diverged`, `out_of_memory`, `rejected` or `internal`"),
    Column("traceback", "traceback of its error"),
    Column("share", "training FLOPs of its runs so far, divided by those of its full training"),
    Column(
        "chunk_tokens",
        "the fewest tokens to which a pack limited a forward pass in training; empty where batches were not divided",
    ),
    Column("config", "its configuration, as JSON"),
    Column("rung", "with a ladder: the highest rung that it was trained on"),
    Column("feasible", "whether it has every objective and satisfies every limit"),
    Column("on_front", "whether it is a point of the reported front"),
    Column("on_search_front", "whether it was a point of the front before the confirmation"),
    Column("runs", "number of complete trials of its configuration"),
    _OBJECTIVE,
    Column(
        "pooled.OBJECTIVE",
        "mean of each objective over these trials, by which it is on the front; only with repeated trials",
    ),
    _POSTERIOR,
    _DEVIATION,
    _PARAMETER,
    Column("metric.METRIC", "each validation score"),
    Column("cost.COST", "each known and measured cost, in parameters, bytes, FLOPs or seconds"),
)

_INTRODUCTION = """\
# Output files

A sweep writes everything into one folder, `sweeps/NAME` by default.
"""
_STUDY = """\
## `study.db`

Optuna studies in one SQLite file: `NAME` has the trials of the sweep NAME, `NAME/confirm` the confirmation runs and
`NAME/probe` the runs of a probe. Optuna's dashboard and `optuna.load_study` read them:

```py
import optuna

study = optuna.load_study(study_name="quickstart", storage="sqlite:///sweeps/quickstart/study.db")
study.trials_dataframe()
```
"""


def output_files_page() -> str:
    """Return the page as Markdown."""
    files = table(("file", "content"), [(f"`{name}`", content) for name, content in FILES])
    sections = [_columns("front.csv", FRONT), _columns("trials.parquet", TRIALS), _STUDY]
    return "\n".join([_INTRODUCTION, files, *sections])


def _columns(name: str, columns: tuple[Column, ...]) -> str:
    rows = [(f"`{column.name}`", column.meaning) for column in columns]
    return f"## `{name}`\n\n{table(('column', 'meaning'), rows)}"
