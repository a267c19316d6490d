"""An autoencoder at work on a stream of decoded images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from liquidgen.errors import UserError

if TYPE_CHECKING:
    import torch

    from liquidgen.autoencoder import Autoencoder


@dataclass(frozen=True)
class Encoder:
    """Turns pixels uint8 (N, S, S, 3) into latents float16 (N, C, h, w), as they are stored."""

    autoencoder: "Autoencoder"
    latent_shape: tuple[int, int, int]  # (C, h, w)
    batch_size: int
    device: "torch.device"

    def __call__(self, arrays: Iterable[np.ndarray], flip: bool) -> np.ndarray:
        """Latents of all images; with flip, of all of them mirrored, too, after the plain ones.

        Raises:
            UserError: latents that are not finite as float16.
        """
        plain, mirrored = [np.empty((0, *self.latent_shape), np.float16)], []
        for batch in rebatched(arrays, self.batch_size):
            plain.append(self._encode(batch))
            if flip:
                mirrored.append(self._encode(np.ascontiguousarray(batch[:, :, ::-1])))
        return np.concatenate(plain + mirrored)

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # as bytes to the device: a quarter of the floats
            batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            latents = self.autoencoder.encode(batch.float() / 127.5 - 1).half().cpu().numpy()
        if not np.isfinite(latents).all():
            raise UserError(
                "autoencoder: latents are not finite in half precision; check the scale of its "
                "block in params.yaml, or use machine.device: cpu"
            )
        return latents


def rebatched(arrays: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """The same rows in batches of batch_size; the last may be smaller."""
    waiting = None
    for array in arrays:
        waiting = array if waiting is None else np.concatenate([waiting, array])
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
    if waiting is not None and len(waiting):
        yield waiting
