"""Extracts features of image files and of decoded latents."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.features import load_feature_network
from liquidgen.figures.grid import to_images, to_levels, to_pixels
from liquidgen.images.decode import Refused, decode
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import DecodedGroup, GroupDecoder
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.manifest import SPLITS
from liquidgen.latents.shards import LatentDataset
from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import Batches

HOLDOUT = SPLITS.index("holdout")
THUMBNAIL = 16  # px


class LabeledFeatures(NamedTuple):
    """What evaluate keeps of a set of images, on the CPU.

    Attributes:
        features: Feature vectors (N, D).
        labels: Labels (N,).
        thumbnails: The images, uint8 (N, 3, 16, 16): the features of a blurred copy are far from
            those of the original.
    """

    features: Tensor
    labels: Tensor
    thumbnails: Tensor


class FeatureExtractor:
    """Applies the feature network to images, and to latents as the autoencoder decodes them.

    Args:
        latents_folder: Latents of the training images and of the holdout.
        network: Name of the feature network.
        batch_size: Images per call of the networks; halved when memory runs out.
        device: Device of the networks.
        world: Processes among which the images are divided.

    Attributes:
        train: Latents of the training images.
        holdout: Latents of the holdout.
        contract: Specification of the latents.
        network: The feature network.
        device: Device of the networks.

    Raises:
        UserError: The latents are damaged or made with another autoencoder.
    """

    def __init__(
        self,
        latents_folder: Path,
        *,
        network: str,
        batch_size: int,
        device: str | torch.device,
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.train = LatentDataset(latents_folder, "train")
        self.holdout = LatentDataset(latents_folder, "holdout")
        self.contract = self.train.contract
        self.network = load_feature_network(network, device)
        self._autoencoder = load_autoencoder(self.contract.autoencoder, device)
        self.contract.check_autoencoder(self._autoencoder.digest)
        self._batches = Batches(batch_size, "evaluate.batch_size")
        self.device = device
        self._world = world
        # every image file is cropped as encode crops the holdout
        self._transform = ImageTransform.model_validate(self.contract, from_attributes=True)
        self._decode_group = GroupDecoder(self._transform, HOLDOUT)

    def from_files(self, raw: RawDataset, split: str) -> LabeledFeatures:
        """Extract the features of all images of a split of image files that can be decoded.

        Each process of the world extracts those of its shard; only the main process gets all.
        """
        own = self._world.shard(list(raw.groups(split)))
        parts = [self.nothing()]
        with self._progress(split, sum(group.count for group in own)) as progress:
            for group in own:
                decoded = self._decode_group(group)
                numbers = np.arange(len(decoded.labels))
                parts += self._batches.map(partial(self._of_decoded, decoded), numbers)
                progress.update(group.count)
        return self._gather(_joined(parts))

    def from_latents(
        self, dataset: LatentDataset, indices: np.ndarray, name: str
    ) -> LabeledFeatures:
        """Extract the features of decoded latents.

        Each process of the world extracts those of its shard; only the main process gets all.

        Args:
            dataset: The latents.
            indices: Indices into it.
            name: What they are, for the progress bar.
        """
        own = self._world.shard(indices)
        return self._gather(self.from_changed_latents(dataset, own, name))

    def from_noise(self, count: int, seed: int) -> LabeledFeatures:
        """Extract the features of decoded noise: what a network that learned nothing could draw.

        Each latent is normally distributed, with the mean and deviation that its channel has in the
        training images. Labels cycle over the classes, as those of samples do.

        Each process of the world extracts those of its shard; only the main process gets all.

        Args:
            count: Number of images.
            seed: Seed of the noise; each image depends on it and on its own number alone.
        """
        shape = self.contract.latent_shape

        def features_of(numbers: np.ndarray) -> LabeledFeatures:
            random = (np.random.default_rng((seed, number)) for number in numbers)
            noise = np.stack([each.standard_normal(shape, np.float32) for each in random])
            latents = self.contract.denormalize(torch.from_numpy(noise))
            labels = torch.from_numpy(numbers % max(1, self.train.num_classes))
            return self._of_latents(latents, labels)

        return self._gather(
            self._extract(features_of, self._world.shard(np.arange(count)), "noise")
        )

    def from_changed_latents(
        self,
        dataset: LatentDataset,
        indices: np.ndarray,
        name: str,
        change: Callable[[Tensor, np.ndarray], Tensor] = lambda latents, _: latents,
    ) -> LabeledFeatures:
        """Extract the features of latents that are changed before they are decoded.

        Args:
            dataset: The latents.
            indices: Indices into it.
            name: What they are, for the progress bar.
            change: Function of latents (B, C, h, w) and their indices (B,).

        Returns:
            Features of these latents, in this process only.
        """

        def features_of(part: np.ndarray) -> LabeledFeatures:
            latents, labels = dataset.batch(part)
            return self._of_latents(change(latents, part), labels)

        return self._extract(features_of, indices, name)

    def decode_images(self, dataset: LatentDataset, indices: np.ndarray) -> list[Image.Image]:
        """Decode latents to images."""
        latents, _ = dataset.batch(indices)
        return to_images(self._autoencoder.decode(latents.to(self.device)))

    def read_images(self, raw: RawDataset, split: str, numbers: list[int]) -> list[Image.Image]:
        """Read the images of a split with these numbers, cropped and resized."""
        images: dict[int, Image.Image] = {}
        for group in raw.groups(split):
            wanted = [n for n in numbers if group.start <= n < group.start + group.count]
            if wanted:
                pixels = self._decode_group(group).pixels
                images |= {n: Image.fromarray(pixels[n - group.start]) for n in wanted}
        return [images[number] for number in numbers]

    def check_readable(self, raw: RawDataset, split: str, remedy: str) -> None:
        """Decode every image of a split.

        Raises:
            UserError: One cannot be decoded, or is not large enough; it is named, with the remedy.
        """
        for group in raw.groups(split):
            for number, record in enumerate(group.read(), start=group.start):
                try:
                    decode(record.data, self._transform, (HOLDOUT, number))
                except Refused as reason:
                    raise UserError(
                        f"{group.path}: {record.path!r} cannot be used ({reason}); {remedy}"
                    ) from None

    def _extract(
        self, features_of: Callable[[np.ndarray], LabeledFeatures], numbers: np.ndarray, name: str
    ) -> LabeledFeatures:
        """Extract features batch by batch, in this process."""
        parts = [self.nothing()]
        with self._progress(name, len(numbers)) as progress:
            for part in self._batches.map(features_of, numbers):
                parts.append(part)
                progress.update(len(part.labels))
        return _joined(parts)

    @torch.inference_mode()
    def _of_decoded(self, decoded: DecodedGroup, numbers: np.ndarray) -> LabeledFeatures:
        """Extract the features of some images of a group."""
        levels = torch.from_numpy(decoded.pixels[numbers]).permute(0, 3, 1, 2)
        return self._of_levels(levels.to(self.device), torch.from_numpy(decoded.labels[numbers]))

    @torch.inference_mode()
    def _of_latents(self, latents: Tensor, labels: Tensor) -> LabeledFeatures:
        """Extract the features of latents (N, C, h, w)."""
        decoded = self._autoencoder.decode(latents.to(self.device))
        # rounded to 8 bits, as samples are in their files
        return self._of_levels(to_levels(decoded), labels)

    def _of_levels(self, levels: Tensor, labels: Tensor) -> LabeledFeatures:
        """Extract the features of uint8 (N, 3, H, W)."""
        features = self.network(to_pixels(levels)).cpu()
        thumbnails = F.adaptive_avg_pool2d(levels.float(), THUMBNAIL).round().to(torch.uint8)
        return LabeledFeatures(features, labels, thumbnails.cpu())

    def nothing(self) -> LabeledFeatures:
        """Return the features of no images."""
        return LabeledFeatures(
            torch.empty(0, self.network.num_features),
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, 3, THUMBNAIL, THUMBNAIL, dtype=torch.uint8),
        )

    def _gather(self, own: LabeledFeatures) -> LabeledFeatures:
        return _joined(self._world.gather(own) or [own])

    def _progress(self, name: str, total: int) -> tqdm:
        return tqdm(
            desc=f"evaluate: {name}", total=total, unit="img", disable=not self._world.is_main
        )


def _joined(parts: Sequence[LabeledFeatures]) -> LabeledFeatures:
    return LabeledFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))
