"""Every method of the installed peft is a family or has a reason why it is none."""

from __future__ import annotations

from peft import PeftType

from search_spaces.families import REGISTRY
from search_spaces.families.framework.peft_methods import COVERED_BY, UNSEARCHED
from search_spaces.space import SearchSpace
from tests.support.tiny_models import DEPTH, pairs, shape_of


def searched() -> set[str]:
    """The methods of the families' configurations on the first model and task that each supports."""
    found = set()
    for family in REGISTRY.values():
        model, task = next(pair for pair in pairs() if family.unsupported(shape_of(*pair), pair[1]) is None)
        config = SearchSpace(family.parameters, family.switches).bind(DEPTH).default()
        found.add(
            str(
                getattr(
                    kind := family.peft_config(config, shape_of(model, task), task).peft_type, "value", kind
                )
            )
        )
    return found


def test_a_new_method_of_peft_is_noticed() -> None:
    methods = {method.value for method in PeftType}
    missing = methods - searched() - COVERED_BY.keys() - UNSEARCHED.keys()
    assert not missing, f"make families of {sorted(missing)}, or give reasons in peft_methods.py"


def test_reasons_are_those_of_methods_that_exist_and_are_not_searched() -> None:
    methods = {method.value for method in PeftType}
    assert UNSEARCHED.keys() <= methods - searched() - COVERED_BY.keys()
    assert COVERED_BY.keys() <= methods
    assert set(COVERED_BY.values()) <= REGISTRY.keys()
