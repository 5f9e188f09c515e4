"""What is trained: the sections `model` and `task` of a sweep file, metrics and scores."""
