"""Train one exported configuration at full budget: needs transformers, peft and datasets, nothing else
(and lion-pytorch where run.json says that the optimizer is lion).

    python train.py [--seed S] [--output DIR]

Beside this file: run.json (model, data, metric), training_args.json (for transformers.TrainingArguments),
adapter_config.json (for peft), encoding.py (how a row becomes tokens, as in the search) and, where peft lacks
the adapter's method, tuners. The adapter is saved in `adapter/`, ready for PeftModel.from_pretrained, and the
scores in `scores.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from encoding import IGNORED, collate, encode, prepare_tokenizer
from peft import PeftConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

HERE = Path(__file__).resolve().parent
if (HERE / "tuners").is_dir():  # the adapter's method, which peft does not have by itself
    import tuners  # noqa: F401
RUN = json.loads((HERE / "run.json").read_text())
TASK, CLASSES = RUN["task"], RUN["classes"]
MODEL = str(HERE / RUN["model"]) if RUN["model"].startswith("./") else RUN["model"]
HUB = {"revision": RUN["revision"], "trust_remote_code": RUN["trust_remote_code"]}
CAUSAL = TASK["type"] == "causal-lm"


def load_split(name):
    """The split as the search saw it, encoded; rows without text or with nothing to learn are left out."""
    source = dict(RUN["splits"][name])
    if "file" in source:  # the split was carved out or embedded, and lies beside this script
        source = {"path": "parquet", "data_files": str(HERE / source["file"]), "split": "train"}
    rows = load_dataset(**source)
    # A language model is scored on whole examples, whatever it was trained on, as in the search.
    length = TASK["max_length"] if CAUSAL and name != "train" else RUN["sequence_length"]
    task = {**TASK, "max_length": length}
    whole = [row for row in rows if all(row[column] is not None for column in RUN["columns"])]
    encoded = [encode(row, task, tokenizer, CLASSES) for row in whole]
    return [e for e in encoded if not CAUSAL or any(label != IGNORED for label in e["labels"][1:])]


def load_model():
    """The base, its weights kept as in the search."""
    kept = {"dtype": torch.bfloat16 if RUN["weights"] == "bf16" else torch.float32, **HUB}
    if RUN["weights"] in ("int8", "nf4"):
        bits = {"load_in_8bit": True} if RUN["weights"] == "int8" else {"load_in_4bit": True}
        kept["quantization_config"] = BitsAndBytesConfig(
            **bits,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=RUN["unquantized"],
        )
    model = AutoModelForCausalLM.from_pretrained(MODEL, **kept) if CAUSAL else load_classifier(kept)
    for module in model.modules():
        # On a CPU with AVX512-BF16, bitsandbytes would rewrite 4-bit weights for an inference kernel at the first
        # evaluation. That kernel has no gradient, computes in bf16 and does not take every width.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_classifier(kept):
    """The base model with a head for sequence classification or regression."""
    return AutoModelForSequenceClassification.from_pretrained(
        MODEL,
        num_labels=len(CLASSES or [0]),
        problem_type="regression" if TASK["type"] == "regression" else "single_label_classification",
        pad_token_id=tokenizer.pad_token_id,
        ignore_mismatched_sizes=True,
        **kept,
    )


def shrink_logits(logits, labels):
    """What is kept of a batch's logits: of a language model, each token's loss and whether it is right."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not CAUSAL:
        return logits
    logits, targets = logits[:, -labels.shape[1] : -1].float(), labels[:, 1:]
    picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.stack([-picked, (logits.argmax(-1) == targets).float()], dim=-1)


def scores(prediction):
    """The metric of the search, by numpy."""
    outputs, labels = prediction.predictions, prediction.label_ids
    if CAUSAL:
        learned = labels[:, 1:] != IGNORED
        loss, correct = outputs[..., 0], (outputs[..., 1] > 0.5) & learned
        mean = float(loss[learned].mean())
        return {
            "perplexity": float(np.exp(mean)),
            "token_accuracy": float(correct.sum() / learned.sum()),
            "exact_match": float(np.mean(correct.sum(1) == learned.sum(1))),
        }
    if TASK["type"] == "regression":
        outputs = outputs.reshape(-1)
        ranks = [np.unique(x, return_inverse=True)[1] for x in (outputs, labels)]
        return {
            "pearson": correlation(outputs, labels),
            "spearman": correlation(*map(mean_ranks, ranks)),
            "mse": float(np.mean((outputs - labels) ** 2)),
        }
    table = np.zeros((len(CLASSES), len(CLASSES)))
    np.add.at(table, (labels, outputs.argmax(-1)), 1)
    return {"accuracy": float(np.trace(table) / table.sum()), "f1": f1(table), "matthews": matthews(table)}


def correlation(a, b):
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


def mean_ranks(codes):
    counts = np.bincount(codes)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def f1(table):
    """Of the second class where there are two, else the mean over the classes that occur."""
    support = table.sum(0) + table.sum(1)
    each = 2 * np.diag(table) / np.maximum(support, 1)
    return float(each[1] if len(each) == 2 else each[support > 0].mean())


def matthews(table):
    true, guessed, total = table.sum(1), table.sum(0), table.sum()
    spread = (total**2 - guessed @ guessed) * (total**2 - true @ true)
    return 0.0 if spread == 0 else float((np.trace(table) * total - true @ guessed) / np.sqrt(spread))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="default: the seed in training_args.json")
    parser.add_argument("--output", default=str(HERE / "adapter"), help="where the adapter is saved")
    options = parser.parse_args()
    settings = json.loads((HERE / "training_args.json").read_text())
    if options.seed is not None:
        settings["seed"] = options.seed
    if RUN["precision"] == "auto":
        settings["bf16"] = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if settings["bf16"] and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        settings["use_cpu"] = True  # or transformers refuses bf16
    set_seed(settings["seed"])

    model, adapter = load_model(), PeftConfig.from_pretrained(str(HERE))
    for name in adapter.modules_to_save or []:
        model.get_submodule(name).float()  # the head, whatever the base is kept in
    model = get_peft_model(model, adapter)
    frozen = {part for part, factor in RUN["learning_rate_factors"].items() if factor == 0}
    for name, parameter in model.named_parameters():
        if frozen.intersection(name.split(".")):
            parameter.requires_grad_(False)
    model.print_trainable_parameters()
    splits = {name: load_split(name) for name in ("train", "validation", "test")}
    trainer = make_trainer(model, settings, splits)
    trainer.train()
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    report = {name: score_split(trainer, splits[name]) for name in ("validation", "test")}
    (HERE / "scores.json").write_text(json.dumps(report, indent=2))
    for name, values in report.items():
        print(f"{name} {TASK['metric']}: {values[TASK['metric']]:.4f}")


class LikeTheSearch(Trainer):
    """The Trainer, with weight decay and learning rates where the search has them.

    Matrices decay, whatever their names. Parameters whose name has a key of RUN["learning_rate_factors"] as a
    part learn that many times as fast.
    """

    def get_decay_parameter_names(self, model):
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def create_optimizer(self, *arguments, **options):
        optimizer = super().create_optimizer(*arguments, **options)
        for part, factor in RUN["learning_rate_factors"].items():
            chosen = {id(p) for name, p in self.model.named_parameters() if part in name.split(".")}
            for group in list(optimizer.param_groups):
                moved = [p for p in group["params"] if id(p) in chosen]
                if moved:
                    group["params"] = [p for p in group["params"] if id(p) not in chosen]
                    optimizer.add_param_group({**group, "params": moved, "lr": factor * group["lr"]})
        return optimizer


class RankBudget(TrainerCallback):
    """AdaLoRA moves its ranks after each step; its penalty belongs to the training loss alone."""

    def on_optimizer_step(self, args, state, control, model=None, **others):
        if model.active_peft_config.total_step > 1:
            model.base_model.update_and_allocate(state.global_step + 1)

    def on_train_end(self, args, state, control, model=None, **others):
        model.active_peft_config.orth_reg_weight = 0.0


def make_trainer(model, settings, splits):
    return LikeTheSearch(
        model=model,
        args=TrainingArguments(output_dir=str(HERE / "checkpoints"), **settings),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=lambda examples: collate(examples, tokenizer),
        compute_metrics=scores,
        preprocess_logits_for_metrics=shrink_logits,
        optimizer_cls_and_kwargs=further_optimizer(settings),
        callbacks=[RankBudget()] if model.active_peft_config.peft_type == "ADALORA" else [],
    )


def further_optimizer(settings):
    """The class and arguments of an optimizer that TrainingArguments has no name for; None if it has one."""
    if RUN["optimizer"] != "lion":
        return None
    from lion_pytorch import Lion

    return Lion, {"lr": settings["learning_rate"]}


def score_split(trainer, split):
    values = trainer.evaluate(split)
    found = {key.removeprefix("eval_"): value for key, value in values.items() if key != "eval_loss"}
    # The Trainer averages a language model's loss over batches; the search averages it over tokens.
    found["eval_loss"] = float(np.log(found["perplexity"])) if CAUSAL else values["eval_loss"]
    return found


tokenizer = prepare_tokenizer(AutoTokenizer.from_pretrained(MODEL, **HUB))

if __name__ == "__main__":
    main()
