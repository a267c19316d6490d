"""Training speed of LiquidNet, a DiT, a U-Net and a DiCo of equal parameters, in turns, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.speed --sizes nano tiny small --rounds 5

Timed are forward, loss, backward and fused AdamW step on ready tensors, and the forward pass alone,
in images per second of this process's CPU time, which other processes disturb little. Each network
has the faster of its two memory formats. The share of the peak is that of a measured matrix product
of the same precision, where a step counts as 3 forward passes. Latents are those of 64 px for nano
and tiny, and of 256 px for small. The last column is the median over rounds of the rate of steps
divided by that of LiquidNet in the same round: below 1, the network is slower. With --compile,
LiquidNet under torch.compile is added, which needs a C++ compiler and some minutes.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks.baselines import BASELINES, FORMATS, batch, forward_flops, networks, parameters
from liquidgen.compute.device import keep_freed_memory
from liquidgen.config.params import load_params

LATENTS = {"nano": (8, 32), "tiny": (8, 32), "small": (32, 2)}  # side, images per step
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
COMPILED = "LiquidNet, compiled"
PEAK_SIDE = 2048  # of the matrices whose product gives the peak


def seconds(work: Callable[[], None], least: float) -> float:
    """Return CPU seconds of one call, over calls that take at least `least` seconds together."""
    calls = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < least or not calls:
        work()
        calls += 1
    return spent / calls


def peak(dtype: torch.dtype) -> float:
    """Return floating-point operations per CPU second of a large matrix product."""
    a, b = torch.randn(2, PEAK_SIDE, PEAK_SIDE).to(dtype)
    torch.mm(a, b)
    return 2 * PEAK_SIDE**3 / seconds(lambda: torch.mm(a, b), 0.5)


class Timed:
    """A network with its optimizer, in its faster memory format and one precision."""

    def __init__(self, network: nn.Module, side: int, images: int, dtype: torch.dtype) -> None:
        self.network = network
        self.images = images
        self.dtype = dtype
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.batch = batch(images, side)
        times = {}
        for layout in FORMATS:
            self.network.to(memory_format=layout)
            self.step()
            times[layout] = seconds(self.step, 0.3)
        self.network.to(memory_format=min(times, key=times.get))

    def forward(self) -> None:
        """Run a forward pass without gradients."""
        with torch.no_grad():
            self._velocity()

    def step(self) -> None:
        """Run a training step."""
        (self._velocity().float() - self.batch[0]).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _velocity(self) -> torch.Tensor:
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            return self.network(*self.batch)


def compare(size: str, precision: str, rounds: int, least: float, compiled: bool) -> None:
    """Print one line per network."""
    params = load_params(changes={"model": size})
    side, images = LATENTS[size]
    dtype = DTYPES[precision]
    arguments = (size, params.model, params.raw["blocks"], side)
    flops = {name: forward_flops(network, side) for name, network in networks(*arguments).items()}
    torch.manual_seed(0)
    entered = networks(*arguments)
    if compiled:
        flops[COMPILED] = flops["LiquidNet"]
        torch.compiler.reset()  # after a few networks of one class it falls back to eager mode
        entered[COMPILED] = torch.compile(networks(*arguments)["LiquidNet"])
    made = {name: Timed(n, side, images, dtype) for name, n in entered.items()}
    steps = {name: [] for name in made}
    forwards = {name: [] for name in made}
    peaks = []
    for _ in range(rounds):
        peaks.append(peak(dtype))
        for name, timed in made.items():
            steps[name].append(images / seconds(timed.step, least))
            forwards[name].append(images / seconds(timed.forward, least / 3))
    for name, timed in made.items():
        pairs = zip(steps[name], steps["LiquidNet"], strict=True)
        share = 3 * flops[name] * median(steps[name]) / median(peaks)
        print(
            f"| {size} {precision} | {name} | {parameters(timed.network) / 1e6:.2f} M "
            f"| {median(steps[name]):.4g} | {median(forwards[name]):.4g} | {share:.0%} "
            f"| {median(other / own for other, own in pairs):.2f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement, at least")
    parser.add_argument("--compile", action="store_true", help="add LiquidNet under torch.compile")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    print("| size | network | parameters | step, images/s | forward | of peak | to LiquidNet |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        for precision in options.precisions:
            compare(size, precision, options.rounds, options.seconds, options.compile)


if __name__ == "__main__":
    main()
