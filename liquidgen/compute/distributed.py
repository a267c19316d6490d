"""Helpers for torch.distributed: ranks, shards and collectives of one stage."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from liquidgen.compute.device import resolve_device
from liquidgen.runtime.launch import is_worker
from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import Sliceable

# covers what rank 0 does alone (checkpoints, previews, scores) while the other ranks wait; a rank
# that dies is noticed at once, by torchrun
COLLECTIVE_TIMEOUT = timedelta(hours=2)


T = TypeVar("T", bound=Sliceable)
Content = tuple[dict[str, Tensor], dict]  # tensors by name, and a state


@dataclass(frozen=True)
class World:
    """Process group of a stage; all collectives are no-ops if there is only one process.

    All ranks must call the same collectives (`sum`, `any`, `barrier`, `gather`, `broadcast`) in the
    same order.

    Attributes:
        rank: Index of this process, from 0.
        size: World size, the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only rank that prints, records and writes files."""
        return self.rank == 0

    def shard(self, sequence: T) -> T:
        """Return the contiguous shard of this rank; lengths differ by at most one over ranks."""
        start = len(sequence) * self.rank // self.size
        stop = len(sequence) * (self.rank + 1) // self.size
        return sequence[start:stop]

    def sum(self, tensor: Tensor) -> Tensor:
        """All-reduce: return the sum over all ranks of tensors of one shape."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Return, on every rank, whether the flag is set on at least one rank."""
        return bool(self.sum(torch.tensor(int(flag))))

    def barrier(self) -> None:
        """Block until all ranks have called this."""
        if self.size > 1:
            dist.barrier()

    def gather(self, part: object) -> list | None:
        """Collect one object per rank on rank 0, in order of rank; None on the other ranks."""
        if self.size == 1:
            return [part]
        parts = [None] * self.size if self.is_main else None
        dist.gather_object(part, parts)
        return parts

    def broadcast(self, content: Content | None) -> Content | None:
        """Return on every rank the tensors and the state that rank 0 passes; None if it has none.

        Args:
            content: Tensors by name, in main memory, and an object; of rank 0 alone.
        """
        if self.size == 1:
            return content
        tensors, state = content or ({}, {})
        described = [(name, value.shape, value.dtype) for name, value in tensors.items()]
        header = [(content is not None, described, state)]
        dist.broadcast_object_list(header)
        exists, described, state = header[0]
        if not exists:
            return None
        received = {}
        for name, shape, dtype in described:
            received[name] = tensors[name] if self.is_main else torch.empty(shape, dtype=dtype)
            dist.broadcast(received[name], 0)
        return received, state


SINGLE_PROCESS = World()


@contextmanager
def init_distributed(device_name: str) -> Iterator[tuple[World, torch.device]]:
    """Initialize the process group that this process was launched in, and destroy it at the end.

    Args:
        device_name: `machine.device` of the settings.

    Yields:
        The world and the device of this rank.

    Raises:
        UserError: There are fewer GPUs than processes, or another rank exited.
    """
    if not is_worker():
        yield SINGLE_PROCESS, resolve_device(device_name)
        return
    device = _local_device(device_name, int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():  # by Ray, which also ends it
        yield World(dist.get_rank(), dist.get_world_size()), device
        return
    try:
        dist.init_process_group(backend_of(device.type), timeout=COLLECTIVE_TIMEOUT)
        world = World(dist.get_rank(), dist.get_world_size())
        yield world, device
        world.barrier()  # a rank that exits early can lose what it has sent but rank 0 not received
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise UserError(
            "another process of this stage ended; `dvc repro` continues where it can"
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def backend_of(device_type: str) -> str:
    """Return torch's backend: gloo for tensors and objects in main memory, also beside GPUs."""
    return "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an error of a collective means that another rank has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _local_device(name: str, local_rank: int) -> torch.device:
    """Device of one rank of this machine: the CPU, or the GPU with the index of the rank."""
    device = resolve_device(name)
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise UserError(f"machine.device: '{name}' is one GPU for several processes; use cuda")
    if local_rank >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"machine.num_processes: more than the {count} GPUs there are; lower it")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
