"""Several processes that train one network together, as torchrun starts them: who they are, averages, agreement.

Differs from DistributedDataParallel: gradients are averaged after the backward pass, in one piece. So a rank whose
memory runs out can still tell the others, who would wait for it inside theirs. A network of 7 MB loses nothing by it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fastnst.errors import FastnstError, UnavailableError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TIMEOUT = timedelta(minutes=10)  # after which ranks that hear nothing of the others give up


@dataclass(frozen=True)
class Ranks:
    """All processes of a run, and which of them this is; alone by default, and then nothing here does anything.

    Every method but `device` waits for all ranks, and raises FastnstError if one of them has ended.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def from_environment(cls) -> "Ranks":
        """What torchrun says in the environment; UsageError if that makes no sense."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in os.environ for name in names):
            return cls()
        try:
            ranks = cls(*(int(os.environ[name]) for name in names[:3]))
        except ValueError as error:
            raise UsageError(
                f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers ({error}); start with torchrun"
            ) from error
        if not 0 <= ranks.rank < ranks.count:
            raise UsageError(f"RANK is {ranks.rank} but must be below WORLD_SIZE, {ranks.count}; start with torchrun")
        return ranks

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def device(self, chosen: "torch.device") -> "torch.device":
        """The GPU of this rank, if GPUs were chosen; UnavailableError if there are fewer than ranks."""
        import torch

        if self.count == 1 or chosen.type != "cuda":
            return chosen
        if self.local >= (gpus := torch.cuda.device_count()):
            raise UnavailableError(
                f"there is no GPU for process {self.local + 1} on this machine, which has {gpus}; "
                f"start torchrun with --nproc-per-node {gpus}, or use --device cpu"
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    @contextmanager
    def connected(self, device: "torch.device") -> Iterator[None]:
        """Talk to the other ranks within this block."""
        if self.count == 1:
            yield
            return
        from torch import distributed

        with _listening():
            # Words go over the network, by gloo; only gradients from GPU to GPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=TIMEOUT)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def average(self, tensors: Sequence["Tensor"]) -> None:
        """Replace float32 tensors by their means over the ranks, equal to the last bit on all of them."""
        if self.count == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _listening():
            distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split_with_sizes([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def highest(self, value: int) -> int:
        """The highest value any rank gives."""
        if self.count == 1:
            return value
        import torch
        from torch import distributed

        shared = torch.tensor(value)
        with _listening():
            distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared)

    def share(self, data: bytes) -> bytes:
        """What the first rank gives."""
        if self.count == 1:
            return data
        import torch
        from torch import distributed

        size = self.highest(len(data) if self.first else 0)
        buffer = torch.zeros(size, dtype=torch.uint8)
        if self.first and data:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with _listening():
            distributed.broadcast(buffer, src=0)
        return buffer.numpy().tobytes()

    def check_same(self, text: str, what: str) -> None:
        """UsageError on all ranks unless all give the same text."""
        if self.highest(self.share(text.encode()) != text.encode()):
            raise UsageError(f"the {what} are not the same on all ranks; give all the same")


@contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo, of NCCL and of the store they meet in
        raise FastnstError(
            "another process of this run has ended or cannot be reached; start all again with --resume"
        ) from error
