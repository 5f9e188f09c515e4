"""What costs and families need to know about a model, read without its weights."""
