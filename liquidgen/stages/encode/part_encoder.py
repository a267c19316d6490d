"""Encodes the parts of a dataset that are not stored yet.

What this module imports determines the bytes of a part: an edit makes a half-finished encode start
again, while an edit of what comes after the parts (`assemble`) does not.
"""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from tqdm.auto import tqdm

from liquidgen.images.row_groups import DecodedGroup, GroupDecoder, Outcomes
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.manifest import SPLITS
from liquidgen.stages.encode.encoder import Encoder
from liquidgen.stages.encode.parts import Part, PartStore
from liquidgen.utils.workers import Workers


def encode_parts(
    parts: list[Part],
    store: PartStore,
    encoder: Encoder,
    decoders: Workers,
    *,
    transform: ImageTransform,
    flip: bool,
    progress: tqdm,
) -> None:
    """Encode the parts that the store lacks.

    Args:
        parts: All parts of this process.
        store: Where finished parts are saved.
        encoder: The autoencoder.
        decoders: Workers that decode image files.
        transform: From image files to pixels.
        flip: Also encode each training image mirrored.
        progress: Counts images, those of finished parts included.
    """
    progress.reset(sum(part.images for part in parts))
    missing = []
    for part in parts:
        if store.has(part):
            progress.update(part.images)
        else:
            missing.append(part)
    for split_number, split in enumerate(SPLITS):
        chosen = [part for part in missing if part.split == split]
        # one stream of groups for all parts, so that workers decode ahead into the next part
        decoder = GroupDecoder(transform, split_number)
        groups = decoders.map(decoder, chain.from_iterable(part.groups for part in chosen))
        for part in chosen:
            own_groups = islice(groups, len(part.groups))
            latents, labels, outcomes = _encode_part(
                own_groups, encoder, flip and split == "train", progress
            )
            store.save(part, latents, labels, outcomes)


def _encode_part(
    groups: Iterator[DecodedGroup], encoder: Encoder, flip: bool, progress: tqdm
) -> tuple[np.ndarray, np.ndarray, Outcomes]:
    """Return latents, labels and outcomes of a part; mirrored samples come after the others."""
    labels = []
    outcomes = []

    def pixels() -> Iterator[np.ndarray]:
        for group in groups:
            labels.append(group.labels)
            outcomes.append(group.outcomes)
            yield group.pixels
            progress.update(group.outcomes.images)

    latents = encoder(pixels(), flip)
    return latents, np.concatenate(labels * (1 + flip)), Outcomes.total(outcomes)
