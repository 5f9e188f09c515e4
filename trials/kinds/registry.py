"""The registry of the kinds of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from .causal_lm import CausalLM
from .image_classification import ImageClassification
from .kind import Metric, TaskKind
from .multi_label_classification import MultiLabelClassification
from .preference import Preference
from .regression import Regression
from .seq2seq import Seq2Seq
from .sequence_classification import SequenceClassification
from .token_classification import TokenClassification

KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        SequenceClassification(),
        TokenClassification(),
        MultiLabelClassification(),
        ImageClassification(),
        Regression(),
        CausalLM(),
        Seq2Seq(),
        Preference(),
    )
}
"""Every kind of task by the `type` that a sweep file names."""


def find_kind(name: str) -> TaskKind:
    """Return the kind of a task's `type`."""
    return KINDS[name]


def all_metrics() -> Mapping[str, Metric]:
    """Return the metrics of every kind by name; a name has the same direction and bounds in each kind."""
    found: dict[str, Metric] = {}
    for kind in KINDS.values():
        for name, metric in kind.metrics.items():
            assert found.setdefault(name, metric) == metric, f"{name} has two meanings"
    return found
