"""Extracts features of image files and of decoded latents."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.figures.grid import to_images
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import GroupDecoder
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.manifest import SPLITS
from liquidgen.latents.shards import LatentDataset
from liquidgen.stages.evaluate.feature_network import load_feature_network


class LabeledFeatures(NamedTuple):
    """Feature vectors (N, D) and labels (N,) of a set of images, on the CPU."""

    features: Tensor
    labels: Tensor


class FeatureExtractor:
    """Applies the feature network to images, and to latents as the autoencoder decodes them.

    Args:
        latents_folder: Latents of the training images and of the holdout.
        batch_size: Latents per call of the networks.
        device: Device of the networks.
        world: Processes among which the images are divided.

    Attributes:
        train: Latents of the training images.
        holdout: Latents of the holdout.
        contract: Specification of the latents.
        network: The feature network.

    Raises:
        UserError: The latents are damaged or made with another autoencoder.
    """

    def __init__(
        self,
        latents_folder: Path,
        *,
        batch_size: int,
        device: str | torch.device,
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.train = LatentDataset(latents_folder, "train")
        self.holdout = LatentDataset(latents_folder, "holdout")
        self.contract = self.train.contract
        self.network = load_feature_network(device)
        self._autoencoder = load_autoencoder(self.contract.autoencoder, device)
        self.contract.check_autoencoder(self._autoencoder.digest)
        self._batch_size = batch_size
        self._device = device
        self._world = world
        # every image file is cropped as encode crops the holdout
        transform = ImageTransform.model_validate(self.contract, from_attributes=True)
        self._decode_group = GroupDecoder(transform, SPLITS.index("holdout"))

    def from_files(self, raw: RawDataset, split: str) -> LabeledFeatures:
        """Extract the features of all images of a split of image files.

        Each process of the world extracts those of its shard; only the main process gets all.
        """
        own = self._world.shard(list(raw.groups(split)))
        groups = map(self._decode_group, own)
        batches = ((to_pixels(g.pixels), torch.from_numpy(g.labels)) for g in groups)
        return self._gather(self._extract(batches, sum(group.count for group in own)))

    def from_latents(self, dataset: LatentDataset, indices: np.ndarray) -> LabeledFeatures:
        """Extract the features of decoded latents.

        Each process of the world extracts those of its shard; only the main process gets all.
        """
        own = self._world.shard(indices)
        return self._gather(self.from_changed_latents(dataset, own, lambda latents: latents))

    def from_changed_latents(
        self, dataset: LatentDataset, indices: np.ndarray, change: Callable[[Tensor], Tensor]
    ) -> LabeledFeatures:
        """Extract the features of latents that are changed before they are decoded.

        Args:
            dataset: The latents.
            indices: Indices into it.
            change: Function of latents (B, C, h, w), called for one batch after the other.

        Returns:
            Features of these latents, in this process only.
        """
        stored = (dataset.batch(part) for part in self._batches(indices))
        batches = ((self._decode(change(latents)), labels) for latents, labels in stored)
        return self._extract(batches, len(indices))

    def decode_images(self, dataset: LatentDataset, indices: np.ndarray) -> list[Image.Image]:
        """Decode latents to images."""
        latents, _ = dataset.batch(indices)
        return to_images(self._decode(latents))

    def read_images(self, raw: RawDataset, split: str, numbers: list[int]) -> list[Image.Image]:
        """Read the images of a split with these numbers, cropped and resized."""
        images: dict[int, Image.Image] = {}
        for group in raw.groups(split):
            wanted = [n for n in numbers if group.start <= n < group.start + group.count]
            if wanted:
                pixels = self._decode_group(group).pixels
                images |= {n: Image.fromarray(pixels[n - group.start]) for n in wanted}
        return [images[number] for number in numbers]

    def _batches(self, indices: np.ndarray) -> list[np.ndarray]:
        return np.split(indices, range(self._batch_size, len(indices), self._batch_size))

    def _decode(self, latents: Tensor) -> Tensor:
        # rounded to 8 bits, as samples are in their files
        pixels = self._autoencoder.decode(latents.to(self._device))
        return ((pixels + 1) * 127.5).round() / 127.5 - 1

    def _gather(self, own: LabeledFeatures) -> LabeledFeatures:
        parts = self._world.gather(own) or [own]
        return LabeledFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.inference_mode()
    def _extract(self, batches: Iterable[tuple[Tensor, Tensor]], total: int) -> LabeledFeatures:
        """Extract features of batches of pixels and labels, in this process."""
        all_features = [torch.empty(0, self.network.num_features)]
        all_labels = [torch.empty(0, dtype=torch.int64)]
        quiet = not self._world.is_main
        with tqdm(desc="evaluate", total=total, unit="img", disable=quiet) as progress:
            for pixels, labels in batches:
                all_features.append(self.network(pixels.to(self._device)).cpu())
                all_labels.append(labels)
                progress.update(len(labels))
        return LabeledFeatures(torch.cat(all_features), torch.cat(all_labels))


def to_pixels(images: np.ndarray) -> Tensor:
    """Convert images uint8 (N, S, S, 3) to pixels (N, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
