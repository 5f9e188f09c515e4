"""Train one exported configuration at full budget: needs transformers, peft and datasets, nothing else
(and lion-pytorch where run.json says that the optimizer is lion).

    python train.py [--seed S] [--output DIR] [--changed-data]
    torchrun --nproc-per-node N train.py    # the same in N processes, also with `accelerate launch`

Beside this file: run.json (model, data, metric), training_args.json (for transformers.TrainingArguments),
adapter_config.json (for peft), task (how a file becomes rows, a row tokens and predictions scores, as in the search),
search_trainer.py, parameter_groups.py, early_stopping.py, subsets.py and added_loss.py (the Trainer, the learning
rate of each parameter, which evaluation counts, which examples are read, and what the adapter adds to the loss),
initialization.py and token_choice.py (the adapter's initial values) and, where they are needed, tuners (the adapter's
method, which peft lacks) and code (your own scores). The adapter is saved in `adapter/`, ready for
PeftModel.from_pretrained, and the scores in `scores.json`.
"""

import argparse
import json
import logging
import sys
import warnings
from functools import cache, partial
from pathlib import Path

# Before peft is imported: it imports bitsandbytes, which then advises some processors' owners to install an inference
# kernel that training does not use.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit" not in str(record.msg)
)
# peft reads an attribute of transformers by its old name.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)

import numpy as np
import torch
import transformers
from initialization import REPLACES_WEIGHTS, Pass, initial_factors, initialize, save_adapter
from parameter_groups import freeze
from peft import PeftConfig, get_peft_model
from search_trainer import (
    Collator,
    Evaluations,
    SearchTrainer,
    additional_optimizer,
    count_processes,
    divided,
)
from subsets import subset
from task.kinds.encoding import encode_rows
from task.kinds.generation import generation_of
from task.kinds.kind import REFERENCE, Scoring, doubles, joined
from task.kinds.registry import find_kind
from task.reading.base_model.fingerprint import model_changes, model_fingerprint
from task.reading.encoding import prepare_tokenizer, token_count
from task.reading.fingerprint import split_changes, split_fingerprint
from task.reading.images import load_reader
from task.reading.labels import TargetScale, as_targets, class_positions, label_text
from task.reading.special_tokens import match_tokens
from task.reading.splits import complete_rows, read_source
from task.scoring.groups import WORST_GROUP, group_means
from task.scoring.own import answers_of, call, generated_answers, load_function
from token_choice import complete_config
from transformers import AutoTokenizer, BitsAndBytesConfig, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

HERE = Path(__file__).resolve().parent
if (HERE / "tuners").is_dir():  # the adapter's method, which peft itself does not have
    import tuners  # noqa: F401
sys.path.append(str(HERE / "code"))  # your own scores, if they are in files
RUN = json.loads((HERE / "run.json").read_text())
TASK, CLASSES, NAMES = RUN["task"], RUN["classes"], RUN["class_names"]
POSITIVE = (
    TASK["positive"] if TASK["positive"] is None else class_positions(CLASSES)[label_text(TASK["positive"])]
)
MODEL = str(HERE / RUN["model"]) if RUN["model"].startswith("./") else RUN["model"]
HUB = {"revision": RUN["revision"], "trust_remote_code": RUN["trust_remote_code"]}
KIND = find_kind(TASK["type"])
SCALE = None if RUN["target_scale"] is None else TargetScale(**RUN["target_scale"])
VALUES = {**RUN["configuration"], **KIND.loss_values(TASK)}
SCORING = Scoring(
    POSITIVE,
    SCALE,
    None if CLASSES is None else tuple(CLASSES),
    None if NAMES is None else tuple(NAMES),
    TASK,
)
NO_PREPARATION = {"method": "", "batches": 0}
QUANTIZED = ("int8", "nf4")
LOADING = """## Head

`config.json` has the number of outputs and, for a classification, the names of the classes (`id2label`); for a
regression, the mean and the deviation of the training targets (`target_scale`):

```python
config = AutoConfig.from_pretrained(folder)
model = {auto_model}.from_pretrained({model!r}, config=config)
model = PeftModel.from_pretrained(model, folder)
```
"""


@cache
def read_split(name):
    """Return the rows of a split, without those that have no text."""
    rows = read_source(RUN["splits"][name], HERE)
    for note in rows.notes:
        print(note)
    return rows.select(complete_rows(rows, RUN["required"]))


def data_changes():
    """Return what changed in the data since the search, in clauses."""
    found = {name: split_fingerprint(read_split(name), RUN["columns"], TASK) for name in RUN["splits"]}
    return [change for name in found for change in split_changes(name, RUN["fingerprint"][name], found[name])]


def base_changes():
    """Return what changed in the base model and its tokenizer since the search, in clauses."""
    options = {"revision": RUN["revision"], "has_code": RUN["trust_remote_code"]}
    found = model_fingerprint(MODEL, tokenizer, TASK["type"], **options)
    return model_changes(RUN["model_fingerprint"], found)


def refuse_changes(is_meant):
    """End the script if the data or the base model changed since the search, unless that is meant."""
    changes = {"data": data_changes(), "base model": base_changes()}
    changed = [what for what, found in changes.items() if found]
    for what in changed:
        print(f"the {what} changed since the search: {'; '.join(changes[what])}", file=sys.stderr)
    if changed and not is_meant:
        sys.exit(f"Restore the {' and the '.join(changed)}, or train on what is there with --changed-data.")


def load_split(name):
    """Return the encoded examples of a split as in the search, without rows that have no target tokens.

    For training they are those of the configuration, where it has a number of them.
    """
    count = RUN["configuration"].get("train_samples") if name == "train" else None
    return subset(load_rows(name)[0], count, seed=0)


@cache
def load_rows(name):
    """Return the encoded examples of a split, and their rows."""
    # As in the search, a language model is scored on whole examples, whatever length it was trained on.
    is_whole = KIND.scores_whole_texts and name != "train"
    length = TASK["max_length"] if is_whole else RUN["sequence_length"]
    task = {**TASK, "max_length": length, "target_scale": RUN["target_scale"]}
    task["generation"] = None if name == "train" else TASK["generation"]
    rows = as_targets(read_split(name), TASK, CLASSES)
    encoded = encode_rows(rows, task, tokenizer, CLASSES)
    for text in filter(None, (encoded.cut.text(name), encoded.cut.target_text(name))):
        print(text)
    return encoded.examples, rows.select(encoded.kept)


def load_model(weights=RUN["weights"]):
    """Return the base model with its weights in a format: fp32, bf16, int8 or nf4."""
    options = {"dtype": torch.bfloat16 if weights == "bf16" else torch.float32, **HUB, **RUN["layers"]}
    if RUN["device_map"] is not None:
        options["device_map"] = RUN["device_map"]
    if RUN["attn_implementation"]:
        options["attn_implementation"] = RUN["attn_implementation"]
    if weights in QUANTIZED:
        bits = {"load_in_8bit": True} if weights == "int8" else {"load_in_4bit": True}
        options["quantization_config"] = BitsAndBytesConfig(
            **bits,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=RUN["unquantized"],
        )
    if not KIND.base_has_head:
        options |= {**KIND.model_options(len(CLASSES or [None])), "ignore_mismatched_sizes": True}
    if NAMES:
        options |= {"id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}
    model = getattr(transformers, KIND.auto_model).from_pretrained(MODEL, **options)
    match_tokens(model, tokenizer)
    for module in model.modules():
        # On a CPU with AVX512-BF16, bitsandbytes would rewrite 4-bit weights for an inference kernel at the first
        # evaluation. That kernel has no gradient, computes in bf16 and does not take every width.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def losses(outputs, targets):
    """Return the summed loss of a batch that the model does not compute itself."""
    examples = len(outputs.logits) // KIND.rows_per_example
    return KIND.losses(outputs, targets, [VALUES] * examples).sum()


def is_movable():
    """Return whether the base model can be moved to another device: neither quantized nor on several devices."""
    return RUN["weights"] not in QUANTIZED and RUN["device_map"] is None


def main():
    """Train, save the adapter, and score the validation and test splits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="default: the seed in training_args.json")
    parser.add_argument("--output", default=str(HERE / "adapter"), help="where the adapter is saved")
    parser.add_argument(
        "--changed-data", action="store_true", help="train although data or base model changed"
    )
    options = parser.parse_args()
    processes = count_processes(RUN["device_map"])
    refuse_changes(options.changed_data)
    settings = json.loads((HERE / "training_args.json").read_text())
    if options.seed is not None:
        settings["seed"] = options.seed
    if RUN["precision"] == "auto":
        settings["bf16"] = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if settings["bf16"] and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        settings["use_cpu"] = True  # transformers refuses bf16 on a CPU otherwise
    settings["dataloader_pin_memory"] = torch.cuda.is_available()
    settings = divided(settings, processes)
    set_seed(settings["seed"])

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it reports each new head, which is what is trained here
    arguments = TrainingArguments(output_dir=str(HERE / "checkpoints"), **settings)
    splits, base = {name: load_split(name) for name in ("train", "validation", "test")}, load_model()
    if KIND.needs_reference(TASK):  # of the base model as it is, before the adapter changes its modules
        for examples in splits.values():
            add_reference(base, arguments, examples)
    model, initial = adapt(base, settings, splits["train"])
    model.print_trainable_parameters()
    trainer = make_trainer(model, arguments, splits)
    trainer.train()
    if not trainer.is_world_process_zero():
        return
    save_adapter(model, options.output, initial)
    tokenizer.save_pretrained(options.output)
    if not KIND.base_has_head:
        outputs = columns_of(model, trainer.args, splits["validation"])
        temperature = KIND.temperature(KIND.finish(outputs, splits["validation"], SCORING))
        describe_head(model, Path(options.output), temperature)
    report = {name: score_split(trainer, splits[name], name) for name in ("validation", "test")}
    (HERE / "scores.json").write_text(json.dumps(report, indent=2))
    for name, values in report.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in values.items()))


def adapt(model, settings, train):
    """Return the model with its adapter, initialized as in the search, and the values that it was initialized to.

    The latter are None unless they were subtracted from the weights (see initialization.py).
    """
    adapter, preparation = PeftConfig.from_pretrained(str(HERE)), RUN["preparation"] or NO_PREPARATION
    adapter.base_model_name_or_path = model.name_or_path
    for name in adapter.modules_to_save or []:
        model.get_submodule(name).float()  # the head is trained in fp32, whatever the base model's format
    passes = ()
    if preparation["batches"]:
        arguments = TrainingArguments(output_dir=str(HERE / "checkpoints"), **settings)
        if is_movable():
            model.to(arguments.device)
        passes = first_batches(train, preparation["batches"], arguments)
    complete_config(adapter, preparation["method"], passes)
    model = get_peft_model(model, adapter).eval()
    unquantized = cache(lambda: load_model("fp32"))
    initialize(
        model, preparation["method"], passes, lambda path: unquantized().get_submodule(path).weight.detach()
    )
    freeze(model, RUN["learning_rate_factors"])
    return model, initial_factors(model) if preparation["method"] in REPLACES_WEIGHTS else None


def first_batches(train, count, arguments):
    """Return random batches of training examples, of which the seed decides, for the adapter's initial values."""
    generator = torch.Generator().manual_seed(arguments.seed)
    order, size = torch.randperm(len(train), generator=generator), arguments.per_device_train_batch_size
    count *= arguments.gradient_accumulation_steps  # as many examples, in micro-batches
    batches = [[train[i] for i in chosen] for chosen in order.split(size)[:count]]
    passes = []
    for examples in batches:
        batch = KIND.collate(examples, tokenizer).to(arguments.device)
        loss = partial(batch_loss, batch, sum(map(KIND.target_count, examples)), arguments.bf16)
        passes.append(Pass(batch.inputs, loss, batch.targets.get("labels")))
    return passes


def batch_loss(batch, targets, is_half, model):
    """Return the training loss of a batch with a number of targets."""
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=is_half):
        if KIND.model_computes_loss:
            return model(**batch.inputs, **batch.targets).loss
        return losses(model(**batch.inputs), batch.targets) / targets


def describe_head(model, folder, temperature=None):
    """Write the configuration of the model with its head beside the adapter, and how to load both to the model card.

    peft saves neither the number of outputs nor the names of the classes. The temperature is None for tasks without
    one class per example.
    """
    config, scale = model.get_base_model().config, RUN["target_scale"]
    if scale:
        config.target_scale = scale
    if temperature is not None:
        config.calibration_temperature = temperature
    config.save_pretrained(folder)
    card = folder / "README.md"
    rows = "".join(f"| {index} | {' '.join(name.split())} |\n" for index, name in enumerate(NAMES or []))
    classes = f"\n| output | class |\n| --- | --- |\n{rows}" if rows else ""
    if scale:
        restored = f"{scale['deviation']!r} * output + {scale['mean']!r}"
        classes = f"\nThe output is standardized: {TASK['label']} = {restored}\n"
    if temperature is not None:
        classes += f"\nProbabilities are calibrated on validation as softmax(logits / {temperature:.4g}); "
        classes += "`config.calibration_temperature` holds the number.\n"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    loading = LOADING.format(model=RUN["model"], auto_model=KIND.auto_model)
    card.write_text(f"{text}\n{loading}{classes}", encoding="utf-8")


def make_trainer(model, arguments, splits):
    """Return a Trainer with the optimizer and the batches of the search."""
    trainer = SearchTrainer(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=Collator(KIND, tokenizer),
        optimizer_cls_and_kwargs=additional_optimizer(RUN["optimizer"], arguments),
        learning_rate_factors=RUN["learning_rate_factors"],
        losses=None if KIND.model_computes_loss else losses,
    )
    if RUN["evaluations"] is not None:
        score = partial(score_split, trainer, splits["validation"], is_final=False)
        trainer.add_callback(Evaluations(model, score, **RUN["evaluations"]))
    return trainer


def add_reference(model, arguments, examples):
    """Add to examples what the base model says of them, in the precision of the training."""
    if is_movable():
        model.to(arguments.device)
    is_half, kind_of_device = arguments.bf16, arguments.device.type
    with torch.autocast(kind_of_device, dtype=torch.bfloat16, enabled=is_half):
        columns = columns_of(model, arguments, examples)
    for example, reference in zip(examples, KIND.reference(columns), strict=True):
        example[REFERENCE] = reference


@torch.inference_mode()
def columns_of(model, arguments, examples):
    """Return what scores are computed from, per example in their order."""
    model.eval()
    order = np.argsort([token_count(example) for example in examples], kind="stable")[::-1]
    size, found = max(1, arguments.per_device_eval_batch_size // KIND.rows_per_example), []
    for start in range(0, len(order), size):
        chosen = [examples[i] for i in order[start : start + size]]
        batch = KIND.collate(chosen, tokenizer).to(arguments.device)
        found.append(doubles(*KIND.columns(model(**batch.inputs), batch.targets)))
    return tuple(column[np.argsort(order)] for column in joined(found))


@torch.inference_mode()
def score_split(trainer, examples, split="validation", is_final=True):
    """Return every metric of the search, `eval_loss` and your own scores among them.

    Your own evaluation of the model runs at the end only, as in the search.
    """
    model, has_rows = trainer.model, RUN["own_metrics"] or RUN["evaluate"] or TASK["groups"]
    rows = load_rows(split)[1] if has_rows else None
    with trainer.compute_loss_context_manager():
        outputs = columns_of(model, trainer.args, examples)
    columns, answers = KIND.finish(outputs, examples, SCORING), None
    scores = KIND.scores(columns, SCORING)
    if TASK["groups"]:
        accuracy = KIND.example_scores(columns)["accuracy"]
        scores[WORST_GROUP] = min(group_means(accuracy, rows[TASK["groups"]]).values())
    if TASK["generation"]:
        generation, texts = generation_of(model, tokenizer, TASK, examples), {}
        for indices in generation.batches(model):
            with trainer.compute_loss_context_manager():
                texts |= dict(zip(indices, generation.generate(model, indices), strict=True))
        scored, generated = generation.scored(texts)
        scores |= scored.metrics
        answers = generated_answers(generated)
    elif RUN["own_metrics"]:
        answers = answers_of(KIND, outputs, examples, rows, SCORING)
    for name, reference in RUN["own_metrics"].items():
        scores |= call(load_function(reference), name, *answers)
    if is_final and RUN["evaluate"] is not None:
        with trainer.compute_loss_context_manager():
            function = load_function(RUN["evaluate"])
            scores |= call(function, RUN["evaluate"], model, tokenizer, [dict(row) for row in rows])
    return scores


if KIND.reads == "images":
    tokenizer = load_reader(MODEL, **HUB)
else:
    tokenizer = prepare_tokenizer(AutoTokenizer.from_pretrained(MODEL, **HUB))

if __name__ == "__main__":
    main()
