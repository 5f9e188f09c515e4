"""Keep other libraries' messages and progress bars out of a caller's output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Raise the log levels of optuna and transformers and hide progress bars of datasets; restore them at the end."""
    import datasets
    import optuna
    import transformers

    levels = optuna.logging.get_verbosity(), transformers.logging.get_verbosity()
    has_bars = datasets.utils.logging.is_progress_bar_enabled()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        optuna.logging.set_verbosity(levels[0])
        transformers.logging.set_verbosity(levels[1])
        if has_bars:
            datasets.enable_progress_bars()
