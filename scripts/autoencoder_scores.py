"""Scores of an autoencoder on held-out images: PSNR, SSIM, edge sharpness, and a comparison."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

Reconstruct = Callable[[torch.Tensor], torch.Tensor]  # pixels -> pixels, both in [-1, 1]


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """Convert uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def reconstructed(reconstruct: Reconstruct, images: np.ndarray) -> np.ndarray:
    """Pass uint8 images through an autoencoder, and round to uint8 as a saved image is."""
    parts = [reconstruct(to_pixels(part)) for part in np.array_split(images, len(images) // 50 + 1)]
    pixels = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).numpy()


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Compute the mean over images of the peak signal-to-noise ratio, dB."""
    errors = ((images / 255.0 - others / 255.0) ** 2).mean(axis=(1, 2, 3))
    return float(-10 * np.log10(errors.clip(1e-10)).mean())


def ssim(images: np.ndarray, others: np.ndarray) -> float:
    """Compute the mean over images of the structural similarity; 1 is equal."""
    from skimage.metrics import structural_similarity

    pairs = zip(images, others, strict=True)
    return float(np.mean([structural_similarity(a, b, channel_axis=2) for a, b in pairs]))


def sharpness(images: np.ndarray, others: np.ndarray) -> float:
    """Compute the mean absolute difference of neighboring pixels, relative to `images`."""
    return float(_gradient(others) / _gradient(images))


def _gradient(images: np.ndarray) -> float:
    signed = images.astype(np.int16)
    return sum(np.abs(np.diff(signed, axis=axis)).mean() for axis in (1, 2))


def table(autoencoders: dict[str, Reconstruct], image_sets: dict[str, np.ndarray]) -> str:
    """Format PSNR, SSIM and sharpness of each autoencoder on each set as a Markdown table."""
    lines = [f"| | {' | '.join(f'{name} ({len(x)})' for name, x in image_sets.items())} |"]
    lines.append("|---" * (len(image_sets) + 1) + "|")
    for name, reconstruct in autoencoders.items():
        pairs = [(images, reconstructed(reconstruct, images)) for images in image_sets.values()]
        cells = [f"{psnr(*x):.2f} / {ssim(*x):.3f} / {sharpness(*x):.2f}" for x in pairs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def patch_pca(images: np.ndarray, patch: int = 8, channels: int = 16) -> Reconstruct:
    """Fit the best linear autoencoder of the same compression to uint8 images."""
    unfold = torch.nn.Unfold(patch, stride=patch)
    patches = unfold(to_pixels(images)).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    basis = torch.linalg.eigh((patches - mean).T @ (patches - mean))[1][:, -channels:]

    def reconstruct(pixels: torch.Tensor) -> torch.Tensor:
        columns = unfold(pixels).transpose(1, 2) - mean
        columns = (columns @ basis @ basis.T + mean).transpose(1, 2)
        return torch.nn.functional.fold(columns, pixels.shape[2:], patch, stride=patch)

    return reconstruct


def comparison(reconstruct: Reconstruct, images: np.ndarray, enlarge: int = 3) -> Image.Image:
    """Draw the originals above their reconstructions."""
    rows = [np.concatenate(list(row), 1) for row in (images, reconstructed(reconstruct, images))]
    sheet = Image.fromarray(np.concatenate(rows))
    size = (sheet.width * enlarge, sheet.height * enlarge)
    return sheet.resize(size, Image.Resampling.NEAREST)
