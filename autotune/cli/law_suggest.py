"""`autotune law suggest`: learning rate and batch size from published laws."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from autotune.cli.parameters import Json
from autotune.cli.terminal import console

if TYPE_CHECKING:
    from surrogates.laws.published import Advice, PublishedLaw, Suggestion


class Purpose(StrEnum):
    """What the run is."""

    PRETRAINING = "pretraining"
    LORA = "lora"


def suggest(
    at: Annotated[
        str,
        typer.Option(
            metavar="QUANTITIES",
            help="The run: params (without embeddings), params_with_head, tokens, flops, seq (tokens per "
            "sequence); for LoRA hidden, rank and family (llama or qwen3). Suffixes: k, M, B and T.",
        ),
    ],
    purpose: Annotated[
        Purpose,
        typer.Option("--for", help="pretraining from scratch, or fine-tuning with LoRA."),
    ] = Purpose.PRETRAINING,
    as_json: Json = False,
) -> None:
    """Suggest a learning rate and a batch size from published laws, without runs of your own.

    Every law that covers the run gives its values, with the domain that its authors measured and its source. A law is
    never used outside its domain: the output says which quantity lies outside which range, and if no law covers the
    run, the command prints no number. Where laws disagree, the spread says by how much.

    \b[bold]pretraining[/]  step-law, deepseek, porian, kaplan
    [bold]lora[/]         lora-llama, lora-qwen3

    Runs of your own are better evidence: fit them with autotune law fit grid.csv --law step.

    \b[dim]$[/] autotune law suggest --at params=1e9,tokens=2e10,seq=2048
    [dim]$[/] autotune law suggest --at flops=1e19
    [dim]$[/] autotune law suggest --for lora --at hidden=4096,family=llama --json
    """
    from autotune.laws.suggestion_target import read_suggestion_target
    from surrogates.laws.published import advise

    target = read_suggestion_target(at)
    advice = advise(target.at, purpose.value, target.model_family)
    if as_json:
        typer.echo(json.dumps(_as_json(advice, target.sequence_length), indent=2))
        return
    console().print(_table(advice, target.sequence_length))
    for line in _lines(advice):
        console().print(line, soft_wrap=True)


def _table(advice: Advice, length: float | None) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("law")
    for title in ("learning rate", "batch (tokens)", *(["batch (sequences)"] if length else [])):
        table.add_column(title, justify="right")
    for each in advice.suggestions:
        batch = each.batch_tokens
        sequences = [_sequences(batch, length)] if length else []
        table.add_row(each.law.name, _rate(each.learning_rate), _count(batch), *sequences)
    return table


def _lines(advice: Advice) -> list[str]:
    """Return the spread, the evidence of each law, and the laws that are not used, as lines for the console."""
    rates = [each for each in advice.suggestions if each.learning_rate is not None]
    lines = []
    if len(rates) > 1 and (ends := advice.learning_rates) is not None:
        low, high = ends
        spread = f"range from {low:.3g} to {high:.3g}, a factor of {high / low:.2g}."
        lines.append(f"The learning rates of {len(rates)} laws {spread}")
    if len([each for each in advice.suggestions if each.batch_tokens]) > 1 and (ends := advice.batches):
        low, high = ends
        lines.append(f"Their batches range from {low:,.0f} to {high:,.0f} tokens.")
    for each in advice.suggestions:
        law = each.law
        lines += [
            f"[bold]{law.name}[/]  {escape(_formulas(law))}",
            f"  measured: {law.describe_domain()}; {law.setting}",
            f"  source: {escape(law.source)}",
        ]
    lines += list(advice.notes)
    for refusal in advice.refusals:
        lines.append(f"[dim]Not used: {refusal.law.name}: {'; '.join(refusal.reasons)}[/]")
    return lines


def _formulas(law: PublishedLaw) -> str:
    named = (("learning rate", law.learning_rate), ("batch", law.batch))
    return "; ".join(f"{name} = {formula}" for name, formula in named if formula is not None)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _sequences(batch: float | None, length: float) -> str:
    if batch is not None and batch < length:
        return "less than 1"
    return _count(None if batch is None else batch / length)


def _as_json(advice: Advice, length: float | None) -> dict[str, Any]:
    return {
        "at": dict(advice.at),
        "suggestions": [_suggestion_json(each, length) for each in advice.suggestions],
        "learning_rate_range": advice.learning_rates,
        "batch_tokens_range": advice.batches,
        "refused": [{"law": each.law.name, "reasons": list(each.reasons)} for each in advice.refusals],
        "notes": list(advice.notes),
    }


def _suggestion_json(each: Suggestion, length: float | None) -> dict[str, Any]:
    batch = each.batch_tokens
    return {
        "law": each.law.name,
        "learning_rate": each.learning_rate,
        "batch_tokens": batch,
        "batch_sequences": batch / length if batch is not None and length else None,
        "domain": {name: [bound.low, bound.high] for name, bound in each.law.domain.items()},
        "setting": each.law.setting,
        "source": each.law.source,
    }
