"""Runs an autoencoder on a stream of decoded images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from liquidgen.images.row_groups import warm
from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import Batches
from liquidgen.utils.workers import Processes, Threads, Workers

if TYPE_CHECKING:
    import torch

    from liquidgen.latents.autoencoder import Autoencoder

CALLS_PER_ITEM = 4  # of the autoencoder, per queue item: fewer waits for the next item


@dataclass(frozen=True)
class Encoder:
    """Encodes pixels uint8 (N, S, S, 3) to latents float16 (N, C, h, w), as they are stored.

    Where memory runs out, smaller batches go on. The latents of an image that is then encoded alone
    may differ in their last bit: libraries of convolutions compute a single image differently.

    Attributes:
        autoencoder: The autoencoder.
        latent_shape: (C, h, w) of a sample.
        batch_size: Images per item of the queue on a GPU, and at most that many on a CPU.
        device: Device of the autoencoder.
        workers: Threads that call the autoencoder, from `encoding_threads`.
    """

    autoencoder: "Autoencoder"
    latent_shape: tuple[int, int, int]
    batch_size: int
    device: "torch.device"
    workers: Workers

    def __call__(self, arrays: Iterable[np.ndarray], flip: bool) -> np.ndarray:
        """Return the latents of all images; with flip, then those of all mirrored images.

        Raises:
            UserError: Latents are not finite in float16.
        """
        items = rebatch(arrays, self._images_per_item())
        views = zip(*self.workers.map(partial(self._views, flip=flip), items), strict=True)
        empty = np.empty((0, *self.latent_shape), np.float16)
        return np.concatenate([empty, *chain.from_iterable(views)])

    def _images_per_item(self) -> int:
        """Return the size of a queue item; small items balance the load between CPU threads."""
        from liquidgen.latents.autoencoder import images_per_call

        if self.device.type != "cpu":
            return self.batch_size
        _, height, width = self.latent_shape
        pixels = height * width * self.autoencoder.downscale**2
        return min(self.batch_size, images_per_call(pixels // CALLS_PER_ITEM, self.device))

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self._images_per_item(), "encode.batch_size")

    def _views(self, images: np.ndarray, flip: bool) -> list[np.ndarray]:
        mirrored = [np.ascontiguousarray(images[:, :, ::-1])] if flip else []
        encoded = [self._batches.map(self._encode, view) for view in (images, *mirrored)]
        return [np.concatenate([*parts]) for parts in encoded]

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # copied to the device as uint8: a quarter of the bytes of float32
            batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            latents = self.autoencoder.encode(batch.float() / 127.5 - 1).half().cpu().numpy()
        if not np.isfinite(latents).all():
            raise UserError(
                "autoencoder: latents are not finite in half precision; check the scale of its "
                "block, or use machine.device: cpu"
            )
        return latents


def decoders_for(device: "torch.device", num_workers: int) -> Workers:
    """Create threads if the autoencoder keeps the CPU busy, and processes if it is on a GPU."""
    return Threads(num_workers) if device.type == "cpu" else Processes(num_workers, warm)


@contextmanager
def encoding_threads(device: "torch.device") -> Iterator[Workers]:
    """Provide on a CPU as many threads as torch uses, each with one torch thread; none for a GPU.

    One batch per thread is faster than batches that all threads share, because these wait for
    each other in every operation.
    """
    import torch

    count = torch.get_num_threads()
    num_workers = count if device.type == "cpu" else 0
    try:
        with Threads(num_workers, partial(torch.set_num_threads, 1)) as threads:
            yield threads
    finally:
        # set_num_threads in one thread also sets the default of threads that start later
        torch.set_num_threads(count)


def rebatch(arrays: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Yield the same rows in batches of batch_size; the last one may be smaller."""
    waiting = None
    for array in arrays:
        waiting = array if waiting is None else np.concatenate([waiting, array])
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
    if waiting is not None and len(waiting):
        yield waiting
