"""The Trainer of an exported run: loss, optimizer and learning rates of the search, and callbacks."""

import os
import sys
from types import SimpleNamespace

import torch
from accelerate.utils import broadcast_object_list
from added_loss import added_loss
from early_stopping import EvaluationRecord, Selection, evaluation_steps
from parameter_groups import has_decay, scale_learning_rates
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

TARGETS = "target_counts"
"""The entry of a batch with the number of targets of each example."""


class Collator:
    """Makes batches of a kind of task, as the arguments of the model with the number of targets beside them.

    Args:
        kind: the kind (see task/kinds/kind.py).
        tokenizer: the tokenizer.
    """

    def __init__(self, kind, tokenizer):
        self.kind, self.tokenizer = kind, tokenizer
        self.names = ()
        """The names of what only the loss reads."""

    def __call__(self, examples):
        batch = self.kind.collate(examples, self.tokenizer)
        self.names = tuple(batch.targets)
        counts = torch.tensor([self.kind.target_count(example) for example in examples])
        return {**batch.inputs, **batch.targets, TARGETS: counts}


def count_processes(device_map):
    """Return the number of processes that torchrun or accelerate launch has started; all but the first are silent."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count > 1 and device_map is not None:
        raise SystemExit(
            "The model is spread over all devices by device_map: run this script in one process."
        )
    if int(os.environ.get("RANK", 0)):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return count


def additional_optimizer(name, arguments):
    """Return the class and arguments of an optimizer that TrainingArguments has no name for, else None."""
    if name != "lion":
        return None
    from lion_pytorch import Lion

    return Lion, {"lr": arguments.learning_rate}


def divided(settings, processes):
    """Return the settings with which each of several processes runs its part of every batch.

    A batch stays as large as in the search, and a forward pass has at most as many examples as in one process.
    """
    micro, count = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    whole = micro * count
    if whole % processes:
        raise SystemExit(
            f"a batch of {whole} examples cannot be divided among {processes} processes; start as many as divide it"
        )
    mine = whole // processes
    size = max(n for n in range(1, min(micro, mine) + 1) if mine % n == 0)
    found = {**settings, "per_device_train_batch_size": size, "gradient_accumulation_steps": mine // size}
    # Without a GPU and without use_cpu, transformers would train in each process alone.
    return found if processes == 1 or torch.cuda.is_available() else {**found, "use_cpu": True}


class SearchTrainer(Trainer):
    """The Trainer with the loss, weight decay and learning rates of the search (see parameter_groups.py).

    The loss of an optimizer step is the sum over its targets divided by their number, as in the search, also where
    the step accumulates the gradients of micro-batches or several processes divide its examples: each micro-batch
    counts by its share of the targets, which holds for what an adapter adds to the loss too.

    Args:
        learning_rate_factors: factors on the learning rate by a part of the parameter's name.
        losses: returns the summed loss of a batch for the model's outputs and the targets; None where the model
            computes its mean itself.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *arguments, learning_rate_factors=None, losses=None, **options):
        super().__init__(*arguments, **options)
        self._factors, self._losses = learning_rate_factors or {}, losses
        if (started := int(os.environ.get("WORLD_SIZE", 1))) != self.args.world_size:
            raise SystemExit(
                f"{started} processes were started, and transformers joins {self.args.world_size}"
            )
        if self.is_fsdp_enabled:
            raise SystemExit(
                "Adapters of models that FSDP divides are not saved: launch the script without FSDP."
            )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(ProgressLines())
        if self.args.gradient_checkpointing:
            self.add_callback(FrozenInputs())
        if self.model.active_peft_config.peft_type == "ADALORA":
            self.add_callback(RankBudget())

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the micro-batches of a step, and the number of targets in all of them and all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum(batch[TARGETS].sum() for batch in batches)
        if batches and self.args.world_size > 1:
            count = self.accelerator.gather(count.to(device)).sum()
        return batches, count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the share of a micro-batch in the loss of its step; without a step, its mean loss."""
        inputs = dict(inputs)
        targets = inputs.pop(TARGETS).sum()
        if self._losses is None:
            outputs = model(**inputs)
            loss = outputs.loss
        else:
            own = {name: inputs.pop(name) for name in self.data_collator.names}
            outputs = model(**inputs)
            loss = self._losses(outputs, own) / targets + added_loss(self.accelerator.unwrap_model(model))
        if num_items_in_batch is not None:
            # Processes average their gradients, so each counts as many times.
            loss = loss * (targets * self.args.world_size / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def get_decay_parameter_names(self, model):
        return [name for name, parameter in model.named_parameters() if has_decay(parameter)]

    def create_optimizer(self, *arguments, **options):
        optimizer = super().create_optimizer(*arguments, **options)
        scale_learning_rates(optimizer, self.model, self._factors)
        return optimizer


class ProgressLines(TrainerCallback):
    """One line per logging step."""

    def on_log(self, args, state, control, logs=None, **others):
        if "loss" in (logs or {}):
            print(
                f"step {state.global_step} of {state.max_steps}: training loss {float(logs['loss']):.4g}",
                flush=True,
            )


class Evaluations(TrainerCallback):
    """Score the model as often as in the search, end by its patience, and keep the adapter of the best evaluation.

    `score` returns the scores of the model on the validation split; `count` and `selection` are those of run.json.
    """

    def __init__(self, model, score, count, selection):
        self.score, self.count, self.metric = score, count, selection["metric"]
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.record = EvaluationRecord(Selection(**selection), keeps_parameters=True)

    def on_step_end(self, args, state, control, **others):
        if state.global_step not in evaluation_steps(state.max_steps, self.count):
            return
        metrics = broadcast_object_list([self.score()])[0]  # so that all processes end at the same step
        self.record.add(SimpleNamespace(metrics=metrics), self.parameters)
        at = f"step {state.global_step} of {state.max_steps}"
        print(f"{at}: validation {self.metric} {metrics[self.metric]:.4g}", flush=True)
        control.should_training_stop = self.record.is_out_of_patience

    def on_train_end(self, args, state, control, **others):
        self.record.restore(self.parameters)


class FrozenInputs(TrainerCallback):
    """Undo what transformers does with gradient checkpointing: a gradient for the output of the embeddings.

    Only checkpoints with reentry need it, and all layers below the lowest adapter would be trained through.
    """

    def on_train_begin(self, args, state, control, model=None, **others):
        model.get_base_model().disable_input_require_grads()


class RankBudget(TrainerCallback):
    """Move AdaLoRA's ranks after each step, and apply its penalty to the training loss only."""

    def on_optimizer_step(self, args, state, control, model=None, **others):
        if model.active_peft_config.total_step > 1:
            model.base_model.update_and_allocate(state.global_step + 1)

    def on_train_end(self, args, state, control, model=None, **others):
        model.active_peft_config.orth_reg_weight = 0.0
