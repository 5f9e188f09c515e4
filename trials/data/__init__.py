"""The data of a task: its splits, checked, carved, encoded and counted."""
