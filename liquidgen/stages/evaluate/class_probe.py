"""Class probe: a logistic regression on features with an extra class for scrambled images.

The extra class keeps images that have the texture of a class, but not its form, from passing as
that class.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# sides of the scrambled blocks, as shares of the latents' shorter side
BLOCK_SHARES = (1 / 8, 1 / 4)


def scramble(latents: Tensor, numbers: Sequence[int], seed: int) -> Tensor:
    """Shuffle blocks of latents, so that the decoded images keep their texture but not their form.

    Generators that have learned texture, but not form, fail like this. Latents are shuffled instead
    of pixels, so that the edges of the blocks do not give it away.

    Args:
        latents: (B, C, h, w).
        numbers: Number of each image; with the seed it determines the size of the blocks and their
            order, whatever the batch.
        seed: Seed of all images.

    Returns:
        Latents (B, C, h, w).
    """
    return torch.stack(
        [
            _shuffle_blocks(image, np.random.default_rng((seed, number)))
            for image, number in zip(latents, numbers, strict=True)
        ]
    )


def _shuffle_blocks(latents: Tensor, random: np.random.Generator) -> Tensor:
    """Shuffle square blocks of one image; what is beyond the last whole block stays."""
    channels, height, width = latents.shape
    side = max(1, round(random.choice(BLOCK_SHARES) * min(height, width)))
    down = height // side
    across = width // side
    whole = latents[:, : down * side, : across * side]
    blocks = whole.reshape(channels, down, side, across, side).transpose(2, 3).flatten(1, 2)
    blocks = blocks[:, random.permutation(down * across)].unflatten(1, (down, across))
    shuffled = latents.clone()
    shuffled[:, : down * side, : across * side] = blocks.transpose(2, 3).reshape(whole.shape)
    return shuffled


class ClassProbe:
    """Multinomial logistic regression on features; class `num_classes` is `scrambled`.

    Args:
        features: Features (N, D) of real images.
        labels: Their labels (N,).
        scrambled: Features (M, D) of scrambled images.
        num_classes: Number of classes, without the extra one.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, scrambled: Tensor, num_classes: int
    ) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        extra = torch.full((len(scrambled),), num_classes)
        regression = LogisticRegression(C=0.1, max_iter=1000)
        self._model = make_pipeline(StandardScaler(), regression)
        self._model.fit(torch.cat([features, scrambled]).numpy(), torch.cat([labels, extra]))

    def predict(self, features: Tensor) -> Tensor:
        """Predict the classes (N,) of features (N, D)."""
        return torch.from_numpy(self._model.predict(features.numpy()))
