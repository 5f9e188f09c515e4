"""Fingerprints of the base model: its weights, configuration and tokenizer."""
