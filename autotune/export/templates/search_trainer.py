"""The Trainer of an exported run: optimizer and learning rates of the search, and callbacks."""

from parameter_groups import has_decay, scale_learning_rates
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback


class SearchTrainer(Trainer):
    """The Trainer with the weight decay and the learning rates of the search (see parameter_groups.py)."""

    def __init__(self, *arguments, learning_rate_factors=None, **options):
        super().__init__(*arguments, **options)
        self._factors = learning_rate_factors or {}
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


class ProgressLines(TrainerCallback):
    """One line per logging step."""

    def on_log(self, args, state, control, logs=None, **others):
        if "loss" in (logs or {}):
            print(
                f"step {state.global_step} of {state.max_steps}: training loss {float(logs['loss']):.4g}",
                flush=True,
            )


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
