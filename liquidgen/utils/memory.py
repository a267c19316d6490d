"""Recognizing that memory ran out, and work in batches that shrink then."""

import errno
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

from liquidgen.utils.errors import UserError, reason_of

logger = logging.getLogger(__name__)

# parts of messages; libraries raise RuntimeError and errors of their own
SIGNS = (
    "out of memory",  # CUDA
    "can't allocate memory",  # torch on a CPU
    "cannot allocate memory",  # the system, as libraries quote it
    "could not create a primitive",  # oneDNN
    "could not create a memory object",
    "cublas_status_alloc_failed",
    "std::bad_alloc",
    "can't start new thread",  # no room for its stack
)


class Sliceable(Protocol):
    """A sequence, array or tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Self: ...


Items = TypeVar("Items", bound=Sliceable)
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that main memory or the memory of a GPU ran out."""
    if isinstance(error, UserError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in message for sign in SIGNS)


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn any error within the context that says that memory ran out into a UserError.

    Args:
        advice: What to do about it, for the message.

    Raises:
        UserError: Memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = reason_of(error, lines=1)
        raise UserError(f"memory ran out ({reason}); {advice}") from None


class Batches:
    """Calls functions on batches, and halves the batch size whenever memory runs out.

    Several threads may share one.

    Args:
        size: Items of a batch at first.
        key: Setting that the size comes from, such as `sample.batch_size`, for messages.
    """

    def __init__(self, size: int, key: str) -> None:
        self._size = size
        self._key = key
        self._lock = threading.Lock()

    def map(self, function: Callable[[Items], Result], items: Items) -> Iterator[Result]:
        """Yield the results of consecutive batches; only the one that failed is done again.

        Args:
            function: Called with a batch; it may be called again with a part of the same batch.
            items: All items.

        Raises:
            UserError: There is not enough memory for a batch of one item.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self._size]
            try:
                result = function(batch)
            except Exception as error:  # what kind depends on the library
                if not is_out_of_memory(error):
                    raise
            else:
                start += len(batch)
                yield result
                continue
            # outside of `except`: what the failed call held is free by now
            self._halve(len(batch))

    def _halve(self, failed: int) -> None:
        """Halve the size after a batch of `failed` items, unless another thread has done so."""
        if failed == 1:
            raise UserError(
                f"{self._key}: not enough memory even for batches of 1; close other programs, or "
                "choose smaller images or networks"
            )
        with self._lock:
            if self._size > failed // 2:
                self._size = failed // 2
                logger.warning(
                    "%s: not enough memory for batches of %d; going on with %d",
                    self._key,
                    failed,
                    self._size,
                )
        gc.collect()
        torch = sys.modules.get("torch")  # slow to import, and not needed by all
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
