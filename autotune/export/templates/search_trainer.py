"""The Trainer of an exported run: optimizer and learning rates of the search, and callbacks."""

from types import SimpleNamespace

from early_stopping import EvaluationRecord, Selection, evaluation_steps
from parameter_groups import has_decay, scale_learning_rates
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback


class SearchTrainer(Trainer):
    """The Trainer with the weight decay and the learning rates of the search (see parameter_groups.py).

    With `losses`, which returns the summed loss of a batch for the model's outputs and the targets, batches are
    `{inputs, targets, count}`: the arguments of the model, those of the loss, and the number of targets.
    """

    def __init__(self, *arguments, learning_rate_factors=None, losses=None, **options):
        super().__init__(*arguments, **options)
        self._factors, self._losses = learning_rate_factors or {}, losses
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(ProgressLines())
        if self.args.gradient_checkpointing:
            self.add_callback(FrozenInputs())
        if self.model.active_peft_config.peft_type == "ADALORA":
            self.add_callback(RankBudget())

    def get_decay_parameter_names(self, model):
        return [name for name, parameter in model.named_parameters() if has_decay(parameter)]

    def create_optimizer(self, *arguments, **options):
        optimizer = super().create_optimizer(*arguments, **options)
        scale_learning_rates(optimizer, self.model, self._factors)
        return optimizer

    def _get_num_items_in_batch(self, batch_samples, device):
        if self._losses is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        # The targets of all batches whose gradients are accumulated for a step.
        return sum(batch["count"] for batch in batch_samples).to(device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self._losses is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # The Trainer divides by the number of accumulated batches unless the loss is divided by all their targets.
        self.loss_is_scaled_for_ga = self.model_accepts_loss_kwargs = num_items_in_batch is not None
        outputs = model(**inputs["inputs"])
        count = inputs["count"] if num_items_in_batch is None else num_items_in_batch
        loss = self._losses(outputs, inputs["targets"]) / count
        take = getattr(
            self.model.base_model, "take_loss", None
        )  # what the adapter adds, such as a balance of experts
        if take is not None and (added := take()) is not None:
            loss = loss + added / (
                1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            )
        return (loss, outputs) if return_outputs else loss


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
        metrics = self.score()
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
