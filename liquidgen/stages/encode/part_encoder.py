"""Encodes parts of a dataset.

What this module imports determines the bytes of a part: an edit makes a half-finished encode start
again, while an edit of what comes after the parts (`assemble`) does not.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import Self

import numpy as np
from tqdm.auto import tqdm

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.images.decode import pillow_limits_off
from liquidgen.images.raw import Group, LoadedGroup
from liquidgen.images.row_groups import DecodedGroup, GroupDecoder, Outcomes
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.contract import latent_shape
from liquidgen.latents.manifest import SPLITS
from liquidgen.stages.encode.encoder import Encoder, decoders_for, encoding_threads
from liquidgen.stages.encode.parts import Part, PartStore
from liquidgen.utils.errors import UserError

Encoded = tuple[np.ndarray, np.ndarray, Outcomes]  # latents, labels, outcomes


@dataclass(frozen=True)
class Recipe:
    """All that determines the bytes of a part, and how this process works.

    Attributes:
        autoencoder: The selected autoencoder.
        digest: SHA-256 of its weights.
        transform: From image files to pixels.
        flip: Also encode each training image mirrored.
        augmented_variants: Augmented variants of each training image that are encoded, too.
        batch_size: Images per step of the autoencoder.
        device: Device of the autoencoder.
        num_workers: Workers that decode image files; 0: decode in this process.
    """

    autoencoder: AutoencoderSettings
    digest: str
    transform: ImageTransform
    flip: bool
    augmented_variants: int
    batch_size: int
    device: str
    num_workers: int


class PartEncoder:
    """Context manager of an autoencoder and of workers that decode image files for it.

    Args:
        recipe: How to encode.

    Raises:
        UserError: The autoencoder has other weights here than the recipe says, or cannot be loaded.
    """

    def __init__(self, recipe: Recipe) -> None:
        from liquidgen.compute.device import resolve_device

        self._recipe = recipe
        self._device = resolve_device(recipe.device)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        from liquidgen.latents.autoencoder import load_autoencoder

        recipe = self._recipe
        with ExitStack() as opened:
            opened.enter_context(pillow_limits_off)
            self._decoders = opened.enter_context(decoders_for(self._device, recipe.num_workers))
            threads = opened.enter_context(encoding_threads(self._device))
            autoencoder = load_autoencoder(recipe.autoencoder, self._device)
            if autoencoder.digest != recipe.digest:
                raise UserError(
                    f"{recipe.autoencoder.path}: weights of digest {autoencoder.digest[:12]} here, "
                    f"but of {recipe.digest[:12]} where the encode began; copy them"
                )
            shape = latent_shape(recipe.autoencoder, recipe.transform.image_size)
            self._encoder = Encoder(autoencoder, shape, recipe.batch_size, self._device, threads)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        from liquidgen.compute.device import empty_cache

        self._opened.close()
        del self._encoder  # free the memory for the next stage in this process
        empty_cache(self._device)

    def encode_parts(self, parts: list[Part], store: PartStore, progress: tqdm) -> None:
        """Encode the parts that a store lacks.

        Args:
            parts: All parts of this process.
            store: Where finished parts are saved.
            progress: Counts images, those of finished parts included.
        """
        missing = missing_parts(parts, store, progress)
        for split in SPLITS:
            chosen = [part for part in missing if part.split == split]
            # one stream of groups for all parts, so that workers decode ahead into the next part
            groups = self._decode(split, chain.from_iterable(part.groups for part in chosen))
            for part in chosen:
                own_groups = islice(groups, len(part.groups))
                store.save(part, *self._encode(split, own_groups, progress))

    def encode_part(self, part: Part, groups: Iterable[LoadedGroup]) -> Encoded:
        """Encode one part, whose row groups are read already."""
        decoded = self._decode(part.split, groups)
        return self._encode(part.split, decoded, tqdm(disable=True))

    def _decode(self, split: str, groups: Iterable[Group | LoadedGroup]) -> Iterator[DecodedGroup]:
        num_variants = self._recipe.augmented_variants if split == "train" else 0
        decoder = GroupDecoder(self._recipe.transform, SPLITS.index(split), num_variants)
        return self._decoders.map(decoder, groups)

    def _encode(self, split: str, groups: Iterable[DecodedGroup], progress: tqdm) -> Encoded:
        """Encode decoded groups; mirrored samples come after the others."""
        flip = self._recipe.flip and split == "train"
        labels = []
        outcomes = []

        def pixels() -> Iterator[np.ndarray]:
            for group in groups:
                labels.append(group.labels)
                outcomes.append(group.outcomes)
                yield group.pixels
                progress.update(group.outcomes.images)

        latents = self._encoder(pixels(), flip)
        return latents, np.concatenate(labels * (1 + flip)), Outcomes.total(outcomes)


def missing_parts(parts: list[Part], store: PartStore, progress: tqdm) -> list[Part]:
    """Return the parts that a store lacks; the images of the others are progress."""
    progress.reset(sum(part.images for part in parts))
    missing = []
    for part in parts:
        if store.has(part):
            progress.update(part.images)
        else:
            missing.append(part)
    return missing
