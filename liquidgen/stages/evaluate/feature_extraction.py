"""Everything that an evaluation looks at, as features: files, and latents as decoded."""

from collections.abc import Callable, Iterable
from pathlib import Path

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
from liquidgen.stages.evaluate.feature_network import load_features
from liquidgen.stages.evaluate.labeled_features import LabeledFeatures


class FeatureExtractor:
    """Looks at pictures through the feature network, and at latents through the autoencoder.

    Raises:
        UserError: the latents are damaged or made with another autoencoder.
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
        self.network = load_features(device)
        self._autoencoder = load_autoencoder(self.contract.autoencoder, device)
        self.contract.check_autoencoder(self._autoencoder.digest)
        self._batch_size, self._device, self._world = batch_size, device, world

    def files(self, raw: RawDataset, split: str) -> LabeledFeatures:
        """All pictures of a split of image files, cropped and resized as encode does.

        In a world each process looks at its share; only the first knows what all have seen.
        """
        own = self._world.shard(list(raw.groups(split)))
        groups = map(self._decoder(), own)
        batches = ((to_pixels(g.pixels), torch.from_numpy(g.labels)) for g in groups)
        return self._together(self._see(batches, sum(group.count for group in own)))

    def all_latents(self, dataset: LatentDataset, indices: np.ndarray) -> LabeledFeatures:
        """As `latents` without a change, but each process of a world looks at its share."""
        return self._together(self.latents(dataset, self._world.shard(indices)))

    def latents(
        self,
        dataset: LatentDataset,
        indices: np.ndarray,
        change: Callable[[Tensor], Tensor] = lambda latents: latents,
    ) -> LabeledFeatures:
        """Pictures that latents decode to, perhaps after a change of each batch of latents."""
        stored = (dataset.batch(part) for part in self._batches(indices))
        batches = ((self._decode(change(latents)), labels) for latents, labels in stored)
        return self._see(batches, len(indices))

    def show(self, dataset: LatentDataset, indices: np.ndarray) -> list[Image.Image]:
        """The pictures that latents decode to."""
        latents, _ = dataset.batch(indices)
        return to_images(self._decode(latents))

    def show_files(self, raw: RawDataset, split: str, numbers: list[int]) -> list[Image.Image]:
        """The pictures of a split with these numbers, as they were seen."""
        shown = {}
        for group in raw.groups(split):
            wanted = [n for n in numbers if group.start <= n < group.start + group.count]
            if wanted:
                pixels = self._decoder()(group).pixels
                shown |= {n: Image.fromarray(pixels[n - group.start]) for n in wanted}
        return [shown[number] for number in numbers]

    def _decoder(self) -> GroupDecoder:
        transform = ImageTransform.model_validate(self.contract, from_attributes=True)
        return GroupDecoder(transform, SPLITS.index("holdout"))  # as encode crops the holdout

    def _batches(self, indices: np.ndarray) -> list[np.ndarray]:
        return np.split(indices, range(self._batch_size, len(indices), self._batch_size))

    def _decode(self, latents: Tensor) -> Tensor:
        # rounded as in an image file, because samples have been in one
        pixels = self._autoencoder.decode(latents.to(self._device))
        return ((pixels + 1) * 127.5).round() / 127.5 - 1

    def _together(self, own: LabeledFeatures) -> LabeledFeatures:
        parts = self._world.gather(own) or [own]
        return LabeledFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.inference_mode()
    def _see(self, batches: Iterable[tuple[Tensor, Tensor]], total: int) -> LabeledFeatures:
        features = [torch.empty(0, self.network.num_features)]
        labels = [torch.empty(0, dtype=torch.int64)]
        quiet = not self._world.is_main
        with tqdm(desc="evaluate", total=total, unit="img", disable=quiet) as progress:
            for pixels, known in batches:
                features.append(self.network(pixels.to(self._device)).cpu())
                labels.append(known)
                progress.update(len(known))
        return LabeledFeatures(torch.cat(features), torch.cat(labels))


def to_pixels(images: np.ndarray) -> Tensor:
    """Pixels (N, 3, S, S) in [-1, 1] of images uint8 (N, S, S, 3)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
