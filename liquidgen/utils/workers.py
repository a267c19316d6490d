"""Pools of processes or threads whose results keep the order of the items."""

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
    """Context manager of a pool; without an executor the caller's thread does the work."""

    def __init__(self, num_workers: int, executor: Executor | None) -> None:
        self._max_pending = 2 * num_workers + 1
        self._executor = executor

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield results in the order of the items; only a few items are taken ahead.

        Raises:
            UserError: A worker process was killed.
        """
        if self._executor is None:
            yield from map(function, items)
            return
        submitted = (self._executor.submit(function, item) for item in items)
        try:
            pending = deque(islice(submitted, self._max_pending))
            while pending:
                result = pending.popleft().result()
                pending.extend(islice(submitted, 1))
                yield result
        except BrokenProcessPool:
            raise UserError(
                "machine.num_workers: a worker process was killed, perhaps because memory ran "
                "out; lower it, 0 works without processes"
            ) from None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


class Processes(Workers):
    """Pool of processes.

    Functions must come from modules that import quickly, because each process imports them again.

    Args:
        num_workers: Number of processes; 0: the caller's thread does the work.
        warm: Called once in each process, while the parent goes on.
    """

    def __init__(self, num_workers: int, warm: Callable[[], None]) -> None:
        executor = None
        if num_workers > 0:
            # spawn: a fork would inherit the locks of other threads, and CUDA's state
            context = get_context("spawn")
            executor = ProcessPoolExecutor(num_workers, context, _start_worker, (warm,))
            # Ctrl-C in a terminal signals the whole group: workers inherit that they ignore it,
            # because the parent stops them
            with _ignored_sigint(), _hidden_main_module():
                for _ in range(num_workers):  # each call starts a process, as none is idle yet
                    executor.submit(os.getpid)
        super().__init__(num_workers, executor)


class Threads(Workers):
    """Pool of threads.

    Args:
        num_workers: Number of threads; 0: the caller's thread does the work.
        begin: Called once in each thread before its work.
    """

    def __init__(self, num_workers: int, begin: Callable[[], None] | None = None) -> None:
        executor = ThreadPoolExecutor(num_workers, initializer=begin) if num_workers else None
        super().__init__(num_workers, executor)


@contextmanager
def _ignored_sigint() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Keep new processes from importing the main module, which may be a script without a guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker(warm: Callable[[], None]) -> None:
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal: the parent ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warm()


def _end_with_parent() -> None:
    # a killed parent cannot stop its workers, and they would wait forever
    parent = parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)
