"""Too little memory."""

import torch

TOO_MUCH = 2**62  # bytes; no computer has addresses for as many


def use_memory_for(items: int, most: int) -> None:
    """Fail as a CPU or GPU does whose memory holds only `most` items."""
    if items > most:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
