"""How a process computes: its threads on a CPU, and the tokens of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from trials.base.cores import share_of_cores


@dataclass(frozen=True)
class Compute:
    """How each process of an executor computes; it changes results by rounding only.

    Args:
        threads: The number of threads on a CPU; None for what suits the cores and the number of processes.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack, padding included; None for what
            suits the device.
    """

    threads: int | None = None
    chunk_tokens: int | None = None

    def threads_of(self, processes: int) -> int:
        """Return the number of threads of each of several processes on this machine.

        PyTorch's own number is an upper bound: the physical cores, or what the user has set by `OMP_NUM_THREADS`.
        """
        import torch

        if self.threads is not None:
            return self.threads
        return min(torch.get_num_threads(), share_of_cores(processes))
