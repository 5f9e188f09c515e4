"""A sweep bound to its model and data, before anything is trained."""
