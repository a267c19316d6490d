"""Tasks of the feature network: damages of known strength, and targets computed from an image.

All functions take pixels (B, 3, S, S) in [-1, 1], a strength in [0, 1] per image, (B,), and a
generator. Strength 0 leaves an image as it is.
"""

import math

import torch
from torch.nn.functional import affine_grid, avg_pool2d, conv2d, grid_sample, interpolate, pad

BLOCK_SIDES = (4, 8, 16, 32)  # px of scrambled blocks
BLUR, NOISE, WARP, GHOST = 2.5, 0.5, 0.35, 0.5  # at strength 1: px, pixel range, squares, share
CODEC = 0.25  # step of the coefficients at strength 1


def crop(pixels, smallest, generator):
    """Crop a random window of at least `smallest` of the side, mirrored half of the time."""
    count = len(pixels)
    side = 1 - (1 - smallest) * torch.rand(count, generator=generator)
    mirror = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * (1 - side)[:, None]
    zeros = torch.zeros(count)
    rows = [mirror * side, zeros, shift[:, 0], zeros, side, shift[:, 1]]
    grid = affine_grid(torch.stack(rows, 1).view(count, 2, 3), pixels.shape, align_corners=False)
    return grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def recolor(pixels, generator):
    """Change contrast and level of each channel; permute the channels of every fifth image."""
    count = len(pixels)
    gain = 0.75 + 0.4 * torch.rand(count, 3, 1, 1, generator=generator)
    level = 0.3 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    order = torch.rand(count, 3, generator=generator).argsort(1)
    kept = torch.rand(count, 1, generator=generator) < 0.8
    order = torch.where(kept, torch.arange(3), order)
    swapped = pixels.gather(1, order[:, :, None, None].expand_as(pixels))
    return (swapped * gain + level).clamp(-1, 1)


def ghost(pixels, strength, generator):
    """Blend in another image of the batch."""
    share = GHOST * strength[:, None, None, None]
    return pixels * (1 - share) + pixels.roll(1, 0) * share


def warp(pixels, strength, generator):
    """Warp along a smooth random field of displacements."""
    count, side = len(pixels), pixels.shape[-1]
    coarse = torch.randn(count, 2, 6, 6, generator=generator) * strength[:, None, None, None]
    field = interpolate(coarse, (side, side), mode="bicubic").permute(0, 2, 3, 1)
    identity = affine_grid(torch.eye(2, 3).expand(count, 2, 3), pixels.shape, align_corners=False)
    grid = identity + WARP * field / 2
    return grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def blur(pixels, strength, generator):
    """Apply a Gaussian blur."""
    width = (BLUR * strength).clamp(min=0.05)
    offsets = torch.arange(-6, 7)
    kernels = torch.exp(-0.5 * (offsets / width[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = pad(pixels, (6, 6, 6, 6), mode="replicate").flatten(0, 1)[None]
    flat = conv2d(flat, kernels[:, :, None, :], groups=len(kernels))
    return conv2d(flat, kernels[:, :, :, None], groups=len(kernels)).view_as(pixels)


def codec(pixels, strength, generator):
    """Disturb and round the cosine coefficients of 8 x 8 blocks, fine ones more coarsely."""
    k = torch.arange(8)
    basis = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) / 2
    basis[0] /= math.sqrt(2)
    blocks = pixels.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = basis @ blocks @ basis.T
    step = CODEC * (1 + k[:, None] + k[None]) / 4 * strength.view(-1, 1, 1, 1, 1, 1)
    disturbed = coefficients / step.clamp(min=1e-3)
    disturbed = disturbed + 0.5 * torch.randn(disturbed.shape, generator=generator)
    blocks = basis.T @ (disturbed.round() * step) @ basis
    restored = blocks.permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape)
    return torch.where(strength[:, None, None, None] > 0, restored, pixels)


def noise(pixels, strength, generator):
    """Add white noise."""
    white = torch.randn(pixels.shape, generator=generator)
    return pixels + NOISE * strength[:, None, None, None] * white


DAMAGES = {"ghost": ghost, "warp": warp, "blur": blur, "codec": codec, "noise": noise}


def scramble(pixels, side, generator):
    """Shuffle the blocks of `side` px of every image, on a grid at a random offset."""
    count, channels, size, _ = pixels.shape
    shift = torch.randint(side, (2,), generator=generator).tolist()
    blocks = pixels.roll(shift, (2, 3)).unfold(2, side, side).unfold(3, side, side)
    places = size // side
    blocks = blocks.reshape(count, channels, places**2, side, side)
    order = torch.rand(count, 1, places**2, 1, 1, generator=generator).argsort(2)
    blocks = blocks.gather(2, order.expand_as(blocks))
    blocks = blocks.view(count, channels, places, places, side, side).permute(0, 1, 2, 4, 3, 5)
    return blocks.reshape(pixels.shape)


def appearance(pixels):
    """Compute targets (B, 272): the thumbnail of an image, and its edge energies per place."""
    gray = pixels.mean(1, keepdim=True)
    thumbnail = avg_pool2d(pixels, pixels.shape[-1] // 8)
    across, down = gray[..., 1:, 1:] - gray[..., 1:, :-1], gray[..., 1:, 1:] - gray[..., :-1, 1:]
    rising, falling = across + down, across - down
    coarse = interpolate(gray, scale_factor=0.25, mode="area")
    coarse = coarse - avg_pool2d(coarse, 3, 1, 1)
    energies = torch.cat([across.abs(), down.abs(), rising.abs(), falling.abs()], 1)
    maps = [avg_pool2d(energies, energies.shape[-1] // 4), avg_pool2d(coarse.abs(), 4)]
    return torch.cat([thumbnail.flatten(1), *(4 * m.flatten(1) for m in maps)], 1)
