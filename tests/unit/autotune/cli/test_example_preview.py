"""The drawing of an example: marks without color, long spans, and text that would control the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from autotune.cli.example_preview import example_preview, visible
from trials.data.preview import ExamplePreview, Span


def drawn(example: ExamplePreview, *, color: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=2_000, force_terminal=color, color_system="standard" if color else None).print(
        example_preview(example)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def chat(*spans: Span, tokens: int = 20, uncut: int = 20) -> ExamplePreview:
    return ExamplePreview("line 7 of chats.jsonl", spans, tokens, sum(s.is_learned for s in spans), uncut)


def test_learned_spans_are_marked_without_color() -> None:
    text = drawn(chat(Span("<user>hi", False), Span("[bold]hello[/]\nthere", True)))
    assert text.splitlines() == [
        "Example (line 7 of chats.jsonl): 20 tokens; the loss covers 1, between ⟦ and ⟧",
        "  <user>hi⟦[bold]hello[/]",
        "  there⟧",
    ]


def test_learned_spans_have_a_color_in_a_terminal() -> None:
    assert "\x1b[32mhello" in drawn(chat(Span("hi", False), Span("hello", True)), color=True)


def test_a_cut_is_said() -> None:
    assert "958 tokens, cut to 128" in drawn(chat(Span("a", True), tokens=128, uncut=958))


def test_an_example_without_anything_to_learn_says_so() -> None:
    assert "the loss covers none of them" in drawn(chat(Span("a", False)))


def test_long_spans_keep_their_ends() -> None:
    text = drawn(chat(Span("a" * 500 + "b" * 5_000 + "c" * 500, False), Span("answer", True)))
    assert " … 5,400 characters … " in text
    assert "c⟦answer⟧" in text
    assert len(text) < 1_000


def test_of_many_spans_the_first_and_the_last_are_shown() -> None:
    turns = [Span(f"<{i}>", i % 2 == 1) for i in range(40)]
    text = drawn(chat(*turns))
    assert "… 28 spans …" in text
    assert "<0>⟦<1>⟧" in text
    assert "⟦<39>⟧" in text
    assert "<20>" not in text


def test_a_label_is_shown_with_its_class() -> None:
    example = ExamplePreview("row 1", (Span("[CLS] good [SEP]", False),), 3, None, 3, "posi\x1b[31mtive", 1)
    assert "  label: 'posi\\x1b[31mtive' (class 1)" in drawn(example)
    number = ExamplePreview("row 1", (Span("[CLS]", False),), 1, None, 1, 4.5)
    assert drawn(number).endswith("  label: 4.5")


def test_characters_that_control_the_terminal_are_visible() -> None:
    assert visible("a\x1b[31mb\tc\rd\ne\u202ef") == "a\\x1b[31mb\\tc\\rd\ne\\u202ef"
    assert visible("größer 😀 👩\u200d💻 日本") == "größer 😀 👩\u200d💻 日本"
