"""Agreement of a model and its tokenizer on the tokens that the model looks for in its input."""

from __future__ import annotations

from typing import Any

from .images import ImageReader
from .tables.errors import DataError


def choose_padding(tokenizer: Any) -> Any:
    """Give a tokenizer without a padding token one that it has already: padding is masked, so any token serves.

    Raises:
        DataError: The tokenizer has none of the tokens that mark the ends of a text.
    """
    if tokenizer.pad_token is not None:
        return tokenizer
    ends = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.bos_token, tokenizer.cls_token)
    found = next((token for token in ends if token is not None), None)
    if found is None:
        raise DataError(
            "the tokenizer has no padding token, and no token that ends or begins a text, which could serve as one",
            "Set tokenizer.pad_token to a token of its vocabulary, and save the tokenizer.",
        )
    tokenizer.pad_token = found
    return tokenizer


def match_tokens(model: Any, tokenizer: Any) -> None:
    """Set the token ids in the configuration of a loaded model to those of its tokenizer.

    A decoder's classifier reads the last token that is not padding, and an encoder-decoder's the end-of-text token:
    with other ids than those of the tokenizer, it would read another token in a batch than in a text by itself.

    A model that numbers positions from the padding id (RoBERTa) keeps its own: it was trained with these positions,
    and reads the first token.

    XLNet's classifier reads the last position, so `collate` pads its texts on the left. What a decoder reads first is
    found by the model's own shift of labels; it is None where that is the last label.
    """
    if isinstance(tokenizer, ImageReader):
        return
    tokenizer.decoder_start = _decoder_start(model)
    tokenizer.head_reads_last_position = getattr(model.config, "model_type", "") == "xlnet"
    if any(
        getattr(module, "padding_idx", None) is not None
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
    ):
        return
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        config.pad_token_id = tokenizer.pad_token_id
        if getattr(config, "is_encoder_decoder", False) and tokenizer.eos_token_id is not None:
            config.eos_token_id = tokenizer.eos_token_id


def _decoder_start(model: Any) -> int | None:
    """Return the token that a decoder reads first; None if it is the last label, or if the model shifts no labels."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        return None
    import torch

    labels = [5, 6, 7]
    first = int(shift(labels=torch.tensor([labels]))[0, 0])
    return None if first == labels[-1] else first
