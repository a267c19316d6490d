"""Worker processes and threads that keep the order of their work."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import TypeVar

from liquidgen.utils.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """A context of workers; without an executor the work is done in the calling thread."""

    def __init__(self, num_workers: int, executor: Executor | None) -> None:
        self._ahead, self._executor = 2 * num_workers + 1, executor

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, computed at most a few items ahead."""
        if self._executor is None:
            yield from map(function, items)
            return
        submitted = (self._executor.submit(function, item) for item in items)
        try:
            pending = deque(islice(submitted, self._ahead))
            while pending:
                result = pending.popleft().result()
                pending.extend(islice(submitted, 1))
                yield result
        except BrokenProcessPool:
            raise UserError(
                "machine.num_workers: a worker process was killed, perhaps for want of "
                "memory; lower it, 0 works without processes"
            ) from None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


class Processes(Workers):
    """Workers that are `num_workers` processes; with 0 there are none.

    `warm` is called once in each process while the parent prepares other things; functions must
    come from modules that import fast, because each process imports them anew.
    """

    def __init__(self, num_workers: int, warm: Callable[[], None]) -> None:
        executor = None
        if num_workers > 0:
            # spawn: a fork would inherit the locks of other threads, and their state of CUDA
            context = get_context("spawn")
            executor = ProcessPoolExecutor(num_workers, context, _start_worker, (warm,))
            # a terminal interrupts the whole group: workers inherit that they ignore it, because
            # the parent answers for all
            with _deaf_to_interruptions(), _main_module_unseen():
                for _ in range(num_workers):  # each starts a process now, while none is idle
                    executor.submit(os.getpid)
        super().__init__(num_workers, executor)


class Threads(Workers):
    """Workers that are `num_workers` threads, each of which calls `begin` first; 0: none."""

    def __init__(self, num_workers: int, begin: Callable[[], None] | None = None) -> None:
        executor = ThreadPoolExecutor(num_workers, initializer=begin) if num_workers else None
        super().__init__(num_workers, executor)


@contextmanager
def _deaf_to_interruptions() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python lets no other do it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _main_module_unseen() -> Iterator[None]:
    """Let new processes not import the main module, which may be a script that started us."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker(warm: Callable[[], None]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warm()


def _end_with_parent() -> None:
    # a killed parent cannot tell its workers to stop, and they would wait for ever
    parent_process().join()
    os._exit(1)
