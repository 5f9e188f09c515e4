"""Filters for messages that other libraries log and that concern no user of this project."""

from __future__ import annotations

import logging

_UNUSED_KERNEL = "gemm_4bit_forward"


def hide_unused_kernel(record: logging.LogRecord) -> bool:
    """Drop the advice of bitsandbytes to install its inference kernel for CPUs with AVX512-BF16.

    bitsandbytes logs it when peft imports it. The kernel has no gradient and is therefore never used here.
    """
    return _UNUSED_KERNEL not in str(record.msg)


def filter_library_messages() -> None:
    """Install the filters; a second call changes nothing."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(hide_unused_kernel)
