"""What a training reports of itself, kept over interruptions."""

import resource
import sys
from dataclasses import dataclass, field

import torch


@dataclass
class Progress:
    """Figures of a training from its first step on; they travel in its checkpoints."""

    seconds: float = 0.0  # spent in training steps
    peak_memory_mb: float = 0.0  # of the GPU, or of the process on a CPU
    gradient_norm: float = 0.0  # of the last finite step, before clipping
    skipped_steps: int = 0  # non-finite ones
    skipped_in_a_row: int = 0  # of these, since the last finite one
    reported: int = 0  # last step whose points, validation and preview are logged
    losses: list[float] = field(default_factory=list)  # since the last validation
    curve: list[dict[str, float]] = field(default_factory=list)  # a row a validation

    def note_memory(self, device: torch.device) -> None:
        """Take over this process's peak if it is the highest yet."""
        self.peak_memory_mb = max(self.peak_memory_mb, _peak_memory_mb(device))


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
