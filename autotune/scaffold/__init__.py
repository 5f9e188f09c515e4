"""`autotune init`: a commented sweep file written from a model and a data file."""
