"""Messages for the user about the data: facts and decisions, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Notes:
    """A collector of messages, each one sentence.

    Args:
        facts: What was found and decided.
        warnings: What makes the scores misleading unless the user acts.

    Example:
        >>> notes = Notes()
        >>> notes.note("validation: 24 rows carved out of train (seed 0)")
        >>> notes.warn("3 of 24 texts of test are also in train")
        >>> notes.warnings
        ['3 of 24 texts of test are also in train']
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a fact or a decision."""
        self.facts.append(text)

    def warn(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(text)


def listed(items: Sequence[str], shown: int = 3) -> str:
    """Return the first items of a list, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], shown=2)
        'a, b and 1 more'
    """
    rest = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {rest:,} more" if rest > 0 else "")
