"""The two sides of the benchmarks of training speed: `transformers.Trainer` with peft, and packs of trials."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.processor import processor_seconds
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY, local_config
from search_spaces.model.shape import ModelShape
from trials.data.task_data import TaskData
from trials.execution.executors import make_executor
from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.schedules import transformers_schedule
from trials.training.subsets import subset


@dataclass(frozen=True)
class Variant:
    """How packs are run: configurations at a time, processes, and what the frozen matrices are multiplied in.

    `is_chosen` marks the variant that a calibration chose.
    """

    k: int
    processes: int = 1
    precision: str = "fp32"
    is_chosen: bool = False

    def __str__(self) -> str:
        return f"K = {self.k}, {self.processes} process(es), {self.precision}"


@dataclass
class Measured:
    """What some trials took together: seconds of training, of everything, of the processor; their losses."""

    train: float = 0.0
    whole: float = 0.0
    cpu: float = 0.0
    losses: tuple[float, ...] = ()

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            self.train + other.train,
            self.whole + other.whole,
            self.cpu + other.cpu,
            self.losses + other.losses,
        )


@dataclass(frozen=True)
class Setting:
    """What both sides train.

    Args:
        model: The base model, with its device, precision and weights.
        task: The task.
        data: The task's data, encoded for the base model.
        shape: The shape of the base model.
        device: The device of the base model.
    """

    model: ModelSpec
    task: TaskSpec
    data: TaskData
    shape: ModelShape
    device: torch.device


def with_trainer(setting: Setting, spec: TrialSpec, folder: str, eval_batch: int = 64) -> Measured:
    """Run one trial as a script of transformers and peft does.

    The base model is loaded for the trial: in bf16 or nf4 where the setting's weights are, else in fp32. Trainer
    computes under autocast in bf16 where the setting's precision or weights are bf16. Weights in nf4 are prepared as
    for QLoRA, without gradient checkpointing, and multiplied in bf16 unless the setting's precision is fp32.

    Args:
        setting: What is trained.
        spec: The trial.
        folder: Where Trainer may write.
        eval_batch: The number of examples per batch in evaluation.
    """
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments, set_seed

    config, batch = spec.config, int(spec.config["batch_size"])
    train = subset(setting.data.splits["train"], spec.fidelity.train_samples, seed=0)
    held_out = subset(setting.data.splits["validation"], spec.fidelity.eval_samples, seed=0)
    started, cpu = time.perf_counter(), time.process_time()
    set_seed(spec.seed)
    loaded = _load(setting)
    family = str(config["family"])
    peft_config = REGISTRY[family].peft_config(local_config(family, config), setting.shape, setting.task.type)
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=eval_batch,
        num_train_epochs=float(config["epochs"]),
        learning_rate=float(config[f"{family}.learning_rate"]),
        weight_decay=float(config["weight_decay"]),
        **transformers_schedule(config, -(-len(train) // batch) * int(config["epochs"])),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        prediction_loss_only=True,
        bf16=_in_bf16(setting),
        use_cpu=setting.device.type == "cpu",
        seed=spec.seed,
    )
    trainer = Trainer(
        get_peft_model(loaded, peft_config),
        arguments,
        train_dataset=train,  # type: ignore[arg-type]
        eval_dataset=held_out,  # type: ignore[arg-type]
        data_collator=_collator(setting),
    )
    begun = time.perf_counter()
    trainer.train()
    synchronize(setting.device)
    trained = time.perf_counter()
    loss = float(trainer.evaluate()["eval_loss"])
    ended = time.perf_counter()
    return Measured(trained - begun, ended - started, time.process_time() - cpu, (loss,))


def _load(setting: Setting) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    model, options = setting.model, dict[str, Any]()
    options["dtype"] = torch.bfloat16 if model.weights == "bf16" else torch.float32
    if model.weights == "nf4":
        options["dtype"] = torch.bfloat16 if _in_bf16(setting) else torch.float32
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options["dtype"]
        )
        if setting.device.type == "cpu":  # else it is the current GPU
            options["device_map"] = {"": setting.device}
    if setting.task.type == "causal-lm":
        loaded = AutoModelForCausalLM.from_pretrained(model.name, **options)
    else:
        labels = setting.data.outputs
        loaded = AutoModelForSequenceClassification.from_pretrained(model.name, num_labels=labels, **options)
    if model.weights != "nf4":
        return loaded
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(loaded, use_gradient_checkpointing=False)


def _in_bf16(setting: Setting) -> bool:
    return "bf16" in (setting.model.weights, setting.model.precision)


def _collator(setting: Setting) -> Any:
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    if setting.task.type == "causal-lm":  # it pads the labels too
        return DataCollatorForSeq2Seq(setting.data.tokenizer)
    return DataCollatorWithPadding(setting.data.tokenizer)


def packed(model: ModelSpec, task: TaskSpec, specs: Sequence[TrialSpec], variant: Variant) -> Measured:
    """Run all trials through the executor `packed`, including the loading of the base model.

    Args:
        model: The base model; the variant's precision replaces its own.
        task: The task.
        specs: The trials.
        variant: How they are run.

    Raises:
        RuntimeError: A trial failed.
    """
    started, cpu, size = time.perf_counter(), processor_seconds(), variant.k
    executor = make_executor("packed", size, processes=variant.processes)
    waiting, results = list(enumerate(specs)), dict[int, TrialResult]()
    under_way = 0
    try:
        executor.start(model.model_copy(update={"precision": variant.precision}), task)
        while waiting or under_way:
            while waiting and under_way < size:
                executor.submit(*waiting.pop(0))
                under_way += 1
            ticket, results[ticket] = executor.next_result()
            under_way -= 1
    finally:
        executor.stop()
    errors = [result.error for result in results.values() if result.error]
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(specs)} trials failed; the first: {errors[0]}")
    losses = tuple(results[ticket].metrics["eval_loss"] for ticket in range(len(specs)))
    train = sum(result.train_seconds for result in results.values()) / variant.processes
    return Measured(train, time.perf_counter() - started, processor_seconds() - cpu, losses)


def peak_flops(
    device: torch.device, size: int = 1536, repeats: int = 7, dtype: torch.dtype = torch.float32
) -> float:
    """Return the FLOPs per second of the best of some products of two square matrices of random numbers."""
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what was started on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def model_flops(setting: Setting, specs: Sequence[TrialSpec]) -> float:
    """Return the training FLOPs of the trials by the cost model, on examples without padding."""
    samples = subset(setting.data.splits["train"], specs[0].fidelity.train_samples, seed=0)
    lengths = np.array([len(example["input_ids"]) for example in samples], dtype=float)
    workload = Workload(float(lengths.mean()), float((lengths**2).mean()), len(samples))
    costs = CostModel(setting.shape, setting.shape.task, workload)
    return sum(costs(spec.config).train_flops for spec in specs)
