"""Forward cost against resolution for LiquidNet and its rivals, one image, fp32.

    OMP_NUM_THREADS=1 python -m benchmarks.resolution --limit 40

CPU seconds of a forward pass on latents of 8x downscaled images, patch size 2, in the size nano:
the minimum of a few calls. Larger sizes of a network are skipped, and marked as such, when the time
of the previous size, grown with the square of the pixels, would exceed the limit. The exponents are
least-squares slopes of log(cost) against log(pixels). Parameters are those at the smallest size:
LiquidNet's position embedding grows with the pixels.
"""

import argparse
import math
import time

import torch
from torch import nn

from benchmarks.baselines import batch, networks, parameters
from liquidgen.config.params import load_params

DOWNSCALE = 8  # px per latent, along one side
PIXELS = (256, 512, 1024, 2048)  # sides
RANGES = ((256, 1024), (256, 2048))  # of the fitted exponents
CALLS = 3


def cost(network: nn.Module, side: int) -> float:
    """Return CPU seconds of one forward pass."""
    arguments = batch(1, side)
    times = []
    with torch.inference_mode():
        for _ in range(CALLS):
            started = time.process_time()
            network(*arguments)
            times.append(time.process_time() - started)
    return min(times)


def exponent(costs: dict[int, float], first: int, last: int) -> str:
    """Return the slope of log(cost) against log(pixels), or a dash if a size was skipped."""
    if last not in costs:
        return "-"
    known = [(2 * math.log(px), math.log(costs[px])) for px in costs if first <= px <= last]
    mean_x, mean_y = (sum(column) / len(known) for column in zip(*known, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in known)
    return f"{above / sum((x - mean_x) ** 2 for x, _ in known):.2f}"


def main() -> None:
    """Print one line per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=40, help="CPU seconds of a forward pass")
    options = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params(changes={"model": "nano", "models.nano.patch_size": 2})
    blocks = params.raw["blocks"]
    costs = {}
    counts = {}
    for px in PIXELS:
        # new networks: a DiT's sinusoids and a U-Net's grid belong to one resolution
        for name, network in networks("nano", params.model, blocks, px // DOWNSCALE).items():
            own = costs.setdefault(name, {})
            counts.setdefault(name, parameters(network))
            expected = own.get(px // 2, 0) * 16
            if expected <= options.limit and (px == PIXELS[0] or px // 2 in own):
                network = network.eval().to(memory_format=torch.channels_last)
                own[px] = cost(network, px // DOWNSCALE)
    titles = [f"{px} px, ms" for px in PIXELS] + [f"exponent {a}-{b}" for a, b in RANGES]
    print("| network | parameters | " + " | ".join(titles) + " |")
    print("|---" * (len(titles) + 2) + "|")
    for name, own in costs.items():
        cells = [f"{1000 * own[px]:.4g}" if px in own else "skipped" for px in PIXELS]
        cells += [exponent(own, *limits) for limits in RANGES]
        print(f"| {name} | {counts[name] / 1e6:.2f} M | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
