"""Class probe: a logistic regression on features with an extra class for scrambled images.

The extra class keeps images that have the texture of a class, but not its form, from passing as
that class.
"""

import torch
from torch import Tensor

BLOCK_SHARES = (1 / 8, 1 / 4)  # sides of the scrambled blocks, as shares of the latents' side


def scramble(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle blocks of latents, so that the decoded images keep their texture but not their form.

    Generators that have learned texture, but not form, fail like this. Latents are shuffled instead
    of pixels, so that the edges of the blocks do not give it away.

    Args:
        latents: (B, C, h, w). The blocks of the first half of the batch have an eighth of the side,
            those of the second half a quarter.
        generator: Source of the permutations.

    Returns:
        Latents (B, C, h, w).
    """
    parts = latents.chunk(len(BLOCK_SHARES))
    return torch.cat(
        [
            _shuffle_blocks(part, max(1, round(share * latents.shape[-1])), generator)
            for part, share in zip(parts, BLOCK_SHARES, strict=False)
        ]
    )


def _shuffle_blocks(latents: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Shuffle square blocks of each sample; what is beyond the last whole block stays."""
    count, channels, height, width = latents.shape
    down = height // side
    across = width // side
    whole = latents[:, :, : down * side, : across * side]
    blocks = whole.reshape(count, channels, down, side, across, side).transpose(3, 4).flatten(2, 3)
    order = torch.rand(count, 1, down * across, 1, 1, generator=generator).argsort(2)
    blocks = blocks.gather(2, order.expand_as(blocks)).unflatten(2, (down, across))
    shuffled = latents.clone()
    shuffled[:, :, : down * side, : across * side] = blocks.transpose(3, 4).reshape(whole.shape)
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
