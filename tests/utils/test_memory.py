"""Memory that runs out: recognized in all libraries, and batches halved."""

import errno
import logging
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.memory import TOO_MUCH, use_memory_for

from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import Batches, is_out_of_memory
from liquidgen.utils.workers import Threads

pytestmark = pytest.mark.fault("memory that runs out")


def out_of_file_memory() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(TOO_MUCH, dtype=torch.uint8),
        lambda: np.ones(TOO_MUCH, np.uint8),
        lambda: bytearray(TOO_MUCH),
        lambda: pa.allocate_buffer(TOO_MUCH),
        out_of_file_memory,
    ],
    ids=["torch", "numpy", "python", "arrow", "system"],
)
def test_errors_of_allocators_are_recognized(allocate: Callable[[], object]):
    with pytest.raises(Exception) as failed:  # noqa: PT011
        allocate()
    assert is_out_of_memory(failed.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("could not create a primitive"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_messages_of_libraries_are_recognized(error: Exception):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2]' is invalid for input of size 3"),
        OSError(errno.ENOSPC, "No space left on device"),
        UserError("memory ran out: out of memory"),
        ValueError(),
    ],
)
def test_other_errors_are_not(error: Exception):
    assert not is_out_of_memory(error)


def limited(most: int, calls: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that has memory for `most` items, and notes how many it got."""

    def function(items: np.ndarray) -> np.ndarray:
        calls.append(len(items))
        use_memory_for(len(items), most)
        return items * 2

    return function


@pytest.mark.parametrize("most", [1, 3, 8, 100])
def test_batches_are_halved_until_they_fit(most: int, caplog: pytest.LogCaptureFixture):
    calls: list[int] = []
    items = np.arange(50)
    with caplog.at_level(logging.WARNING):
        results = list(Batches(16, "sample.batch_size").map(limited(most, calls), items))
    assert np.array_equal(np.concatenate(results), items * 2)
    assert sum(size for size in calls if size <= most) == len(items)  # nothing is done twice
    failures = [size for size in calls if size > most]
    assert len(failures) == len(caplog.records) <= 4
    assert all("sample.batch_size: not enough memory" in text for text in caplog.messages)


def test_later_work_keeps_the_smaller_size():
    calls: list[int] = []
    batches = Batches(16, "encode.batch_size")
    for _ in range(3):
        list(batches.map(limited(4, calls), np.arange(8)))
    assert calls == [8, 4, 4, 4, 4, 4, 4]


def test_threads_share_the_smaller_size(caplog: pytest.LogCaptureFixture):
    calls: list[int] = []
    batches = Batches(64, "encode.batch_size")
    function = limited(2, calls)
    groups = [np.arange(start, start + 32) for start in range(0, 320, 32)]
    with Threads(2) as threads:
        found = threads.map(
            lambda group: np.concatenate(list(batches.map(function, group))), groups
        )
        assert np.array_equal(np.concatenate(list(found)), np.arange(320) * 2)
    assert len(caplog.records) <= 4
    assert calls.count(2) == 160


def test_one_item_that_does_not_fit_is_one_line():
    with pytest.raises(UserError, match=r"^evaluate\.batch_size: not enough"):
        list(Batches(4, "evaluate.batch_size").map(limited(0, []), np.arange(9)))


def test_other_errors_pass():
    def function(items: np.ndarray) -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        list(Batches(4, "evaluate.batch_size").map(function, np.arange(9)))
