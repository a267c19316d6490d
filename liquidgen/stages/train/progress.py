"""Training statistics that are saved in checkpoints."""

import resource
import sys
from dataclasses import dataclass, field

import torch


@dataclass
class Progress:
    """Statistics of a training from its first step on, over all interruptions.

    Attributes:
        seconds: Time spent in training steps.
        peak_memory_mb: Peak memory of the GPU, or of the process on a CPU.
        gradient_norm: Norm of the last finite step, before clipping.
        skipped_steps: Number of steps whose loss or gradient was not finite.
        skipped_in_a_row: Skipped steps since the last finite one.
        reported: Last step whose metrics, validation and preview are logged.
        losses: Training losses since the last validation.
        curve: One row per validation.
    """

    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    gradient_norm: float = 0.0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    reported: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)

    def update_peak_memory(self, device: torch.device) -> None:
        """Raise the peak memory to that of this process if it is higher."""
        self.peak_memory_mb = max(self.peak_memory_mb, _peak_memory_mb(device))


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
