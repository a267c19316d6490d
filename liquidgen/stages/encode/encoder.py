"""An autoencoder at work on a stream of decoded images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from liquidgen.utils.errors import UserError
from liquidgen.utils.workers import Threads, Workers

if TYPE_CHECKING:
    import torch

    from liquidgen.latents.autoencoder import Autoencoder

CALLS = 4  # of the autoencoder, between which a thread does not wait for more images


@dataclass(frozen=True)
class Encoder:
    """Turns pixels uint8 (N, S, S, 3) into latents float16 (N, C, h, w), as they are stored."""

    autoencoder: "Autoencoder"
    latent_shape: tuple[int, int, int]  # (C, h, w)
    batch_size: int
    device: "torch.device"
    workers: Workers  # of `encoding_threads`

    def __call__(self, arrays: Iterable[np.ndarray], flip: bool) -> np.ndarray:
        """Latents of all images; with flip, of all of them mirrored, too, after the plain ones.

        Raises:
            UserError: latents that are not finite as float16.
        """
        batches = rebatched(arrays, self._images_per_call())
        views = zip(*self.workers.map(partial(self._views, flip=flip), batches), strict=True)
        empty = np.empty((0, *self.latent_shape), np.float16)
        return np.concatenate([empty, *chain.from_iterable(views)])

    def _images_per_call(self) -> int:
        """Of a CPU's threads each takes few, so that all end together."""
        from liquidgen.latents.autoencoder import images_per_call

        if self.device.type != "cpu":
            return self.batch_size
        _, height, width = self.latent_shape
        pixels = height * width * self.autoencoder.downscale**2
        return min(self.batch_size, images_per_call(pixels // CALLS, self.device))

    def _views(self, batch: np.ndarray, flip: bool) -> list[np.ndarray]:
        mirrored = [np.ascontiguousarray(batch[:, :, ::-1])] if flip else []
        return [self._encode(view) for view in (batch, *mirrored)]

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # as bytes to the device: a quarter of the floats
            batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            latents = self.autoencoder.encode(batch.float() / 127.5 - 1).half().cpu().numpy()
        if not np.isfinite(latents).all():
            raise UserError(
                "autoencoder: latents are not finite in half precision; check the scale of its "
                "block, or use machine.device: cpu"
            )
        return latents


@contextmanager
def encoding_threads(device: "torch.device") -> Iterator[Workers]:
    """On a CPU as many threads as torch has, each with one of torch's; none beside a GPU.

    Batches side by side are faster than batches that all threads share, which wait for each other.
    """
    import torch

    count = torch.get_num_threads()
    try:
        with Threads(count if device.type == "cpu" else 0, partial(torch.set_num_threads, 1)) as it:
            yield it
    finally:
        torch.set_num_threads(count)  # the setting in a thread is also that of all later threads


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
