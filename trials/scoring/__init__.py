"""Scores beside those of a kind of task: functions of the user, and scores of classes and groups.

The package imports nothing of the project but `trials.kinds` and `trials.reading`, and relatively, because an
exported run carries a copy of the three.
"""
