"""Write docs/reference/families.md: which adapter family works on which architecture, from the registry itself.

    python -m docs.generators.families

A test holds the committed page equal to what this makes. Models are read from their default configurations,
cut to two layers, without weights: whether a family works does not depend on the depth.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from search_spaces.families import REGISTRY, Family
from search_spaces.families.framework.base import Preparation
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.families.framework.peft_methods import UNSEARCHED
from search_spaces.model.layers import KNOWN
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.model.task_heads import MissingHeadError

PAGE = Path(__file__).parents[1] / "reference" / "families.md"
ARCHITECTURES = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "distilbert": "DistilBERT",
    "deberta-v2": "DeBERTa-v2",
    "electra": "ELECTRA",
    "modernbert": "ModernBERT",
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "falcon": "Falcon",
    "mamba": "Mamba",
    "xlnet": "XLNet",
    "t5": "T5",
    "bart": "BART",
    "vit": "ViT",
}
"""transformers' name of each architecture, and its own."""
IMAGES: TaskType = "image-classification"
IMAGE_MODELS = ("vit",)
"""They classify images, and stand in the tables beside those that classify texts."""

_INTRODUCTION = """\
# Adapter families

This page is made by `python -m docs.generators.families` from the registry. The commands
`autotune spaces --model MODEL` and `autotune cost --model MODEL --space SPACE` say the same and more of a
model of yours. A family that cannot work on a model is left out of its search space, and the sweep says why.

An encoder-decoder (T5) is one sequence of layers, its encoder's first, then its decoder's; "all" targets include
cross-attention. Targets such as `encoder.q+v` or `decoder.all` stay on one side, and `cross-attention` is that
alone. ViT stands for models that classify images (`--task image-classification`), which can be priced and not
trained.

The columns below stand for more types of models; [another page](architectures.md) has them all. These are read and
priced exactly: {known}. Of other types, the matrices of attention and of the feed-forward network are found by
their names, sizes and use. The FLOPs of a type that is not in the list are counted on torch's meta device, and where
that is impossible, the sweep says that they are estimates.
"""


_INITIAL_VALUES = """\
## Initial values of LoRA

`lora.init` chooses them. What reads training data reads the first batches of the trial, so the seed decides them, and
their FLOPs are part of `train_flops`. Decompositions are not counted. An exported run computes the same from its own
first batches, and every saved adapter loads on the unchanged base model.

| `lora.init` | A and B | reads | saved |
| --- | --- | --- | --- |
| `kaiming` | A random, B zero | nothing | A, B |
| `orthogonal` | random and orthogonal, B A zero | nothing | A, B |
| `pissa` | largest singular values and vectors of W, subtracted | W | A, B; repeated at loading |
| `olora` | QR decomposition of W, subtracted | W | A, B; repeated at loading |
| `eva` | A the directions in which the inputs vary most, B zero | {eva} batches | A, B |
| `corda` | largest components of W C, C the covariance of inputs, subtracted | {corda} batches, W | twice the rank |
| `lora_ga` | singular vectors of the gradient, subtracted | {lora_ga} batches, gradients, W | twice the rank |
| `loftq` | largest components of the error of quantization | W before quantization | A, B |

`loftq` requires `model: {{weights: int8}}` or `nf4`; `pissa`, `olora`, `corda` and `lora_ga` require weights that are
not quantized, and `olora` matrices that are not transposed (GPT-2). Values that a model cannot have leave its search
space, which `autotune spaces` says.
"""


def families_page() -> str:
    """The page as Markdown."""
    introduction = _INTRODUCTION.format(known=", ".join(f"`{kind}`" for kind in KNOWN))
    parts = [introduction, _about_families()]
    tables: dict[str, list[str]] = {}
    for task in (task for task in get_args(TaskType) if task != IMAGES):
        tables.setdefault(_support(task), []).append(task)
    parts += [f"## {', '.join(tasks)}\n\n{table}" for table, tasks in tables.items()]
    batches = {name: found.batches for name in ("eva", "corda", "lora_ga") if (found := _preparation(name))}
    return "\n".join([*parts, _INITIAL_VALUES.format(**batches), _about_unsearched()])


def built_in() -> list[Family]:
    """The project's own families, by name; what others have installed does not belong on the page."""
    return [
        family
        for _, family in sorted(REGISTRY.items())
        if type(family).__module__.startswith("search_spaces.")
    ]


def parameters_formula(family: Family) -> str:
    """What the documentation of the family's cost begins with; a dash where nothing documents it."""
    if family.formula:
        return family.formula
    for owner in type(family).__mro__:
        if owner in (MatrixFamily, Family):
            break
        for method in ("matrix_cost", "cost"):
            text = inspect.cleandoc(getattr(vars(owner).get(method), "__doc__", None) or "")
            if text:
                paragraph = " ".join(text.split("\n\n")[0].split())
                return re.split(r"[.;] |\.$", paragraph)[0]
    return "–"


def _about_families() -> str:
    rows = [
        (f"`{family.name}`", family.title, parameters_formula(family), _parameters(family))
        for family in built_in()
    ]
    note = "i and o are the inputs and outputs of a matrix, d the width of the model, r the rank."
    return f"{_table(('family', 'name', 'trainable parameters', 'parameters'), rows)}\n{note}\n"


def _preparation(init: str) -> Preparation | None:
    return REGISTRY["lora"].preparation({"init": init})


def _about_unsearched() -> str:
    rows = [(f"`{name}`", reason) for name, reason in sorted(UNSEARCHED.items())]
    note = "peft has neither residual prompts nor other prompts of low rank than those of `MULTITASK_PROMPT_TUNING`."
    return f"## Methods of peft that no family searches\n\n{_table(('method', 'reason'), rows)}\n{note}\n"


def _parameters(family: Family) -> str:
    return ", ".join(f"`{parameter.name}`" for parameter in family.parameters)


def _support(task: TaskType) -> str:
    shapes: dict[str, ModelShape] = {}
    unread: dict[str, str] = {}
    for architecture in ARCHITECTURES:
        found = _shape(architecture, task)
        if isinstance(found, str):
            unread[architecture] = found
        else:
            shapes[architecture] = found
    notes: dict[str, int] = {}
    rows = []
    for family in built_in():
        cells = []
        for shape in shapes.values():
            reason = family.unsupported(shape, shape.task)
            if reason is not None:
                reason = re.sub(rf"\b{re.escape(shape.model_type)}\b", "the model", reason)
            cells.append("yes" if reason is None else f"no ({notes.setdefault(reason, len(notes) + 1)})")
        rows.append((f"`{family.name}`", *cells))
    headings = ("family", *(ARCHITECTURES[architecture] for architecture in shapes))
    lines = [_table(headings, rows) if shapes else ""]
    lines += [f"{number}. {reason}" for reason, number in notes.items()]
    lines += ["", *_unread(unread)]
    return "\n".join(lines).rstrip() + "\n"


def _unread(reasons: Mapping[str, str]) -> list[str]:
    """Why architectures have no column, those with the same reason together."""
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        names = [ARCHITECTURES[name] for name, other in reasons.items() if other == reason]
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        lines.append(f"* {listed} {'are' if len(names) > 1 else 'is'} not here: {reason}")
    return lines


def _shape(architecture: str, task: TaskType) -> ModelShape | str:
    """The shape, or why there is none."""
    if architecture in IMAGE_MODELS and task != "causal-lm":
        task = IMAGES
    try:
        return read_shape(CONFIG_MAPPING[architecture](num_hidden_layers=2), task)
    except MissingHeadError:
        return "transformers has no head for this task on it"
    except ValueError as error:
        text = str(error).strip().splitlines()[0]
        return (text.partition(": ")[2] or text).partition("; its modules are ")[0]


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *map(list, rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    PAGE.write_text(families_page(), encoding="utf-8")
    print(PAGE)
