"""How a process computes: its threads on a CPU, and the tokens of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from trials.base.cores import share_of_cores

_SMALL = 2**18
"""The elements of a chunk's hidden states up to which a second thread gains nothing: its time is spent on waiting.

BERTs of four layers, a limit of 2,048 tokens, LoRA, two idle Zen 4 cores: with two threads that wait passively, a
trial took 1.2 times as long as with one at width 96, 1.05 at 128, 0.8 to 1.1 at 192, and 0.7 at 256.
"""


@dataclass(frozen=True)
class Compute:
    """How each process of an executor computes; it changes results by rounding only.

    Args:
        threads: The number of threads on a CPU; None for what suits the cores, the processes and the base model.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack, padding included; None for what
            suits the device.
        processes: The number of processes that divide the cores of this machine.
    """

    threads: int | None = None
    chunk_tokens: int | None = None
    processes: int = 1

    def most_threads(self) -> int:
        """Return the number of threads that suits the cores and the processes, whatever is computed.

        PyTorch's own number is an upper bound: the physical cores, or what the user has set by `OMP_NUM_THREADS`.
        """
        import torch

        return self.threads or min(torch.get_num_threads(), share_of_cores(self.processes))

    def threads_for(self, width: int, device: str) -> int:
        """Return the number of threads for a base model: one for a small model on a CPU.

        Args:
            width: The size of the model's hidden states.
            device: The device of the model, as in `ModelSpec`.
        """
        from trials.base.model import choose_device
        from trials.training.length_batching import suited_tokens

        tokens = self.chunk_tokens or suited_tokens(choose_device(device))
        return self.threads or (1 if width * tokens <= _SMALL else self.most_threads())


class ThreadCount:
    """PyTorch's number of threads in this process, which can be restored."""

    def __init__(self) -> None:
        self._before: int | None = None

    def set(self, threads: int) -> None:
        """Compute with a number of threads from now on."""
        import torch

        if self._before is None:
            self._before = torch.get_num_threads()
        torch.set_num_threads(threads)

    def restore(self) -> None:
        """Compute with as many threads as before the first `set`; without one, change nothing."""
        if self._before is not None:
            self.set(self._before)
        self._before = None
