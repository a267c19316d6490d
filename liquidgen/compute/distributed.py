"""Several processes of one stage, through torch.distributed: who does what, and how they agree."""

import os
from collections.abc import Iterator, Sequence
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

# for what the first process does alone (checkpoints, sample grids, scores); a dead process is
# noticed at once, by torchrun
PATIENCE = timedelta(hours=2)
Part = TypeVar("Part", bound=Sequence)


@dataclass(frozen=True)
class World:
    """The processes of a stage. All of them must make the same exchanges in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def shard(self, whole: Part) -> Part:
        """This process's part of a sequence: contiguous, as long as the others' or one more."""
        start, stop = (len(whole) * rank // self.size for rank in (self.rank, self.rank + 1))
        return whole[start:stop]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process."""
        return bool(self.sum(torch.tensor(int(flag))))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def gather(self, part: object) -> list | None:
        """The parts of all processes in order of rank; None except in the first process."""
        if self.size == 1:
            return [part]
        parts = [None] * self.size if self.is_main else None
        dist.gather_object(part, parts)
        return parts


SINGLE_PROCESS = World()


@contextmanager
def init_distributed(device_name: str) -> Iterator[tuple[World, torch.device]]:
    """The world that this process was started in, and the device that it works on.

    Raises:
        UserError: there are fewer GPUs than processes, or another process of the world ended.
    """
    if not is_worker():
        yield SINGLE_PROCESS, resolve_device(device_name)
        return
    device = _own_device(device_name, int(os.environ["LOCAL_RANK"]))
    # gloo carries what lies in main memory, also beside GPUs
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
        world = World(dist.get_rank(), dist.get_world_size())
        yield world, device
        world.barrier()  # who leaves early takes along what the first has not yet received
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise UserError(
            "another process of this stage ended; `dvc repro` goes on where it can"
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _own_device(name: str, local_rank: int) -> torch.device:
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
