"""A process with little memory."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def little_memory(room: int) -> Iterator[None]:
    """Limit the address space of this process to what it has and `room` bytes more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
