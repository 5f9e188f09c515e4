"""The frozen base model: loading, quantization, int8 products."""
