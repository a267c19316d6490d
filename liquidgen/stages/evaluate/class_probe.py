"""A classifier that tells whether a conditional picture shows its class, and is hard to fool."""

import torch
from torch import Tensor

SHARES = (1 / 8, 1 / 4)  # sides of scrambled blocks, of the latents' side


def scramble(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Latents (B, C, h, w) with their places exchanged in blocks; decoded, they keep the texture.

    Half of the batch in blocks of an eighth of the side, half in blocks of a quarter. It is done
    to latents, not to pixels, so that block edges do not give it away: this is how a generator
    fails that has learnt texture, but not form.
    """
    parts = latents.chunk(len(SHARES))
    return torch.cat(
        [
            _exchange(part, max(1, round(share * latents.shape[-1])), generator)
            for part, share in zip(parts, SHARES, strict=False)
        ]
    )


def _exchange(latents: Tensor, side: int, generator: torch.Generator) -> Tensor:
    count, channels, height, width = latents.shape
    down, across = height // side, width // side
    kept = latents[:, :, : down * side, : across * side]
    blocks = kept.reshape(count, channels, down, side, across, side).transpose(3, 4).flatten(2, 3)
    order = torch.rand(count, 1, down * across, 1, 1, generator=generator).argsort(2)
    blocks = blocks.gather(2, order.expand_as(blocks)).unflatten(2, (down, across))
    exchanged = latents.clone()
    exchanged[:, :, : down * side, : across * side] = blocks.transpose(3, 4).reshape(kept.shape)
    return exchanged


class Probe:
    """Multinomial logistic regression on features, with `num_classes` as the class `scrambled`."""

    def __init__(self, features: Tensor, labels: Tensor, scrambled: Tensor, num_classes: int):
        """Fit to features (N, D) and labels (N,) of real pictures, and (M, D) of scrambled ones."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rejected = torch.full((len(scrambled),), num_classes)
        regression = LogisticRegression(C=0.1, max_iter=1000)
        self._model = make_pipeline(StandardScaler(), regression)
        self._model.fit(torch.cat([features, scrambled]).numpy(), torch.cat([labels, rejected]))

    def predict(self, features: Tensor) -> Tensor:
        """Classes (N,) of features (N, D)."""
        return torch.from_numpy(self._model.predict(features.numpy()))
