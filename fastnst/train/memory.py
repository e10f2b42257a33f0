"""What happens when memory runs out: a batch is computed in smaller parts, on all ranks alike."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import torch

from fastnst.device import keep_freed_memory
from fastnst.errors import UnavailableError
from fastnst.interrupt import is_out_of_memory
from fastnst.train.ranks import Ranks

log = logging.getLogger(__name__)

T = TypeVar("T")
Batch = TypeVar("Batch")


class OutOfMemory(Exception):
    """On some rank, raised on all."""


class Memory:
    """How many photographs of a batch are computed at once: half as many from where memory runs out."""

    def __init__(self, device: torch.device, ranks: Ranks, micro_batch: int) -> None:
        self.device, self.ranks, self.micro_batch = device, ranks, micro_batch
        if device.type == "cpu":
            keep_freed_memory()
        self.zero = torch.zeros((), device=device, requires_grad=True)
        self.oldest = 1 * self.zero  # a graph older than any other

    def retry(self, work: Callable[[Batch], T], split: Callable[[int], Batch], size: int) -> T:
        """work(split(micro_batch)) on crops of this size; again with half as many each time memory runs out.

        Raises UnavailableError if not even one crop fits.
        """
        while True:
            try:
                return self.within(partial(work, split(self.micro_batch)))
            except OutOfMemory:
                pass
            self._free()
            if self.micro_batch == 1:
                raise UnavailableError(
                    f"one crop of {size}x{size} does not fit into the memory of {self.device}; "
                    "use a smaller --size, a smaller --preset, or --precision bf16"
                )
            self.micro_batch = (self.micro_batch + 1) // 2
            if self.ranks.first:
                log.warning("memory ran out; training goes on with --micro-batch %d", self.micro_batch)

    def within(self, work: Callable[[], T]) -> T:
        """The result of the work; OutOfMemory if that did not fit on some rank."""
        result = None
        try:
            result = work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # After the except block, which keeps all that the work had allocated.
        if self.ranks.highest(result is None):
            raise OutOfMemory
        return cast(T, result)

    def _free(self) -> None:
        # A broken backward stays in autograd's queue, with all that it would have needed, until an older graph is to be
        # worked on.
        torch.autograd.grad(self.oldest, self.zero, retain_graph=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            keep_freed_memory(False)  # kept blocks lie in pieces
