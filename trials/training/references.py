"""What the frozen base model says of examples, for losses that compare a trial's model with it.

It is computed by the plain base model, without any adapter, in its own precision, and once per example and process:
every trial of every configuration reads the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from trials.base.model import Base
from trials.data.task_data import TaskData
from trials.kinds.kind import REFERENCE
from trials.kinds.registry import find_kind
from trials.reading.encoding import Encoded
from trials.training.evaluation import columns_of


def with_references(base: Base, data: TaskData, examples: Sequence[Encoded]) -> Sequence[Encoded]:
    """Return the examples with the base model's entry `REFERENCE`, if the task needs one.

    The entries of one example are equal in every call with the same base model, and so is the returned object.

    Args:
        base: The base model.
        data: The task's data, for their tokenizer and the task's fields.
        examples: Encoded examples of a split.
    """
    kind, known = find_kind(base.task.type), base.references
    if not kind.needs_reference(data.fields):
        return examples
    missing = [example for example in examples if id(example) not in known]
    if missing:
        columns = columns_of(
            base.model, data, missing, task_type=kind.name, device=base.device, computing=base.computing
        )
        for example, reference in zip(missing, kind.reference(columns), strict=True):
            # The first example of the pair is kept with it, so that its id, which is the key, is not reused.
            known[id(example)] = (example, {**example, REFERENCE: reference})
    return [known[id(example)][1] for example in examples]
