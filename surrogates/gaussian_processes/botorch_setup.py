"""Settings of BoTorch that must hold before its acquisition functions are used."""

from __future__ import annotations


def without_compiler() -> None:
    """Keep BoTorch from compiling its C++ extension at first use.

    qLogEHVI and qLogNEHVI would call a compiler with the options of this machine, which takes minutes and writes to
    the user's cache. Their Python implementation computes the same values.
    """
    from botorch.acquisition.multi_objective import logei

    # The sentinel is private; a version without it has no compilation at first use or asks in another way.
    if hasattr(logei, "_load_attempted"):
        logei._load_attempted = True
