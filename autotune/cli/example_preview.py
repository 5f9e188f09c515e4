"""An example as the model sees it, drawn in the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from trials.data.preview import ExamplePreview, Span

_OPEN, _CLOSE = "⟦", "⟧"
"""The marks around tokens that the loss covers, which a log without colors shows as well."""
_HEAD, _TAIL = 400, 200
"""Characters at the beginning and the end of a longer span that are shown."""
_SPANS = 6
"""Spans at the beginning, and as many at the end, of an example with more spans."""


def example_preview(example: ExamplePreview) -> RenderableType:
    """Return an example with a line above that counts its tokens, and its label below."""
    heading = Text(f"Example ({visible(example.place)}): {_tokens(example)}", style="bold")
    parts: list[RenderableType] = [heading, Padding(_text(example.spans), (0, 2))]
    if example.rejected:
        parts[1:] = [
            Text("  chosen:"),
            parts[1],
            Text("  rejected:"),
            Padding(_text(example.rejected), (0, 2)),
        ]
    if example.learned is None:
        parts.append(Text(f"  label: {_label(example)}"))
    return Group(*parts)


def example_json(example: ExamplePreview) -> dict[str, Any]:
    """Return an example as values that JSON can represent; nothing is left out of long ones."""
    return {
        "place": example.place,
        "tokens": example.tokens,
        "tokens_without_limit": example.uncut,
        "learned_tokens": example.learned,
        "spans": [{"text": span.text, "is_learned": span.is_learned} for span in example.spans],
        "rejected": [{"text": span.text, "is_learned": span.is_learned} for span in example.rejected],
        "label": example.label,
        "label_index": example.label_index,
    }


def visible(text: str) -> str:
    """Return a text in which control characters, such as those of terminal colors, are visible escapes."""
    return "".join(
        c if c == "\n" or not _is_control(c) else c.encode("unicode_escape").decode() for c in text
    )


def _is_control(character: str) -> bool:
    # Format characters can reverse the direction of the text; those that join letters and emoji cannot.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\u200c\u200d\xad"


def _tokens(example: ExamplePreview) -> str:
    if example.uncut > example.tokens:
        count = f"{example.uncut:,} tokens, cut to {example.tokens:,}"
    else:
        count = f"{example.tokens:,} tokens"
    if example.learned is None:
        return count
    if not example.learned:
        return f"{count}; the loss covers none of them"
    return f"{count}; the loss covers {example.learned:,}, between {_OPEN} and {_CLOSE}"


def _label(example: ExamplePreview) -> str:
    label = example.label if isinstance(example.label, int | float) else repr(example.label)
    index = "" if example.label_index is None else f" (class {example.label_index})"
    return f"{visible(str(label))}{index}"


def _text(spans: Sequence[Span]) -> Text:
    text = Text()
    for part, style in _parts(spans):
        text.append(part, style)
    return text


def _parts(spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """Yield the shown pieces of text with their styles; what is left out is counted."""
    left_out = max(0, len(spans) - 2 * _SPANS)
    for place, span in enumerate(spans):
        if left_out and _SPANS <= place < _SPANS + left_out:
            if place == _SPANS:
                yield f" … {left_out:,} spans … ", "dim"
            continue
        style = "green" if span.is_learned else ""
        if span.is_learned:
            yield _OPEN, "bold green"
        if len(span.text) > _HEAD + _TAIL:
            yield visible(span.text[:_HEAD]), style
            yield f" … {len(span.text) - _HEAD - _TAIL:,} characters … ", "dim"
            yield visible(span.text[-_TAIL:]), style
        else:
            yield visible(span.text), style
        if span.is_learned:
            yield _CLOSE, "bold green"
