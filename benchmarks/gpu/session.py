"""One run of the measurements: its device, its time, and its results as they come."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.preparation import wait_for
from liquidgen.compute.device import empty_cache

WARM_UP = 3  # calls that are not timed
Result = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """What all parts share.

    Attributes:
        folder: Gets the results and working files.
        device: Device that is measured.
        deadline: When to stop, on the clock of `time.monotonic`.
        is_rehearsal: Whether all is small, to try the parts and not the device.
    """

    folder: Path
    device: torch.device
    deadline: float
    is_rehearsal: bool

    @property
    def results(self) -> Path:
        """JSON lines, one per result, written as they come."""
        return self.folder / "results.jsonl"

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def record(self, part: str, **values: object) -> None:
        """Write a result, and print it."""
        line = json.dumps({"part": part} | values)
        with open(self.results, "a") as file:
            file.write(f"{line}\n")
        print(line, flush=True)

    def read(self) -> list[Result]:
        """Read the results so far."""
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text().splitlines()]

    def seconds_of(self, work: Callable[[], object], least: float = 2.0) -> float:
        """Return the seconds of one call, over calls that take at least `least` seconds."""
        least, warm_up = (0.0, 1) if self.is_rehearsal else (least, WARM_UP)
        for _ in range(warm_up):
            work()
        wait_for(self.device)
        calls = 0
        started = time.perf_counter()
        while not calls or time.perf_counter() - started < least:
            work()
            wait_for(self.device)
            calls += 1
        return (time.perf_counter() - started) / calls

    def reset_peak_memory(self) -> None:
        """Release cached memory, and start measuring peak memory again."""
        empty_cache(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory(self) -> float | None:
        """Return the largest memory of tensors since `reset_peak_memory`, GiB; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self.device) / 2**30
