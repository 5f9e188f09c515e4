"""The kinds of tasks: one module per kind, from a row of data to its scores.

The package imports nothing of the project but `trials.reading`, and relatively, because an exported run carries a
copy of both.
"""
