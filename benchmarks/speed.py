"""How fast LiquidNet trains beside an equal-parameter DiT and U-Net, in turns, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.speed --sizes nano tiny small --rounds 5

Timed: forward, loss, backward and fused AdamW step on ready tensors, and the forward alone, in
images a second of this process's CPU time, so that other processes disturb little. Each network
has the faster of its two memory formats. The share of the peak is that of a measured matrix product
of the same precision, with 3 forward passes counted for a step. Latents are those of 64 px for
nano and tiny, and of 256 px for small. The last column is the median over rounds of the step's rate
divided by LiquidNet's in the same round: below 1, the rival is slower. With --compile, LiquidNet
through torch.compile is one more rival, which needs a C++ compiler and some minutes.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks.rivals import FORMATS, RIVALS, batch, forward_flops, networks, parameters
from liquidgen.compute.device import keep_freed_memory
from liquidgen.config.params import load_params
from liquidgen.config.settings import ModelSettings

LATENTS = {"nano": (8, 32), "tiny": (8, 32), "small": (32, 2)}  # side, images a step
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
COMPILED = "LiquidNet, compiled"
PEAK_SIDE = 2048  # of the matrices whose product gives the peak


def seconds(work: Callable[[], None], least: float) -> float:
    """CPU seconds of one call, over calls that take at least so long together."""
    calls, started = 0, time.process_time()
    while (spent := time.process_time() - started) < least or not calls:
        work()
        calls += 1
    return spent / calls


def peak(dtype: torch.dtype) -> float:
    """Floating-point operations a CPU second of a large matrix product."""
    a, b = torch.randn(2, PEAK_SIDE, PEAK_SIDE).to(dtype)
    torch.mm(a, b)
    return 2 * PEAK_SIDE**3 / seconds(lambda: torch.mm(a, b), 0.5)


class Contestant:
    """A network with its optimizer, in one memory format and precision."""

    def __init__(self, network: nn.Module, side: int, images: int, dtype: torch.dtype) -> None:
        self.network, self.images, self.dtype = network, images, dtype
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.batch = batch(images, side)
        times = {}
        for layout in FORMATS:
            self.network.to(memory_format=layout)
            self.step()
            times[layout] = seconds(self.step, 0.3)
        self.network.to(memory_format=min(times, key=times.get))

    def forward(self) -> None:
        """A forward pass without gradients."""
        with torch.no_grad():
            self._velocity()

    def step(self) -> None:
        """A step of training."""
        (self._velocity().float() - self.batch[0]).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _velocity(self) -> torch.Tensor:
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            return self.network(*self.batch)


def compare(size: str, precision: str, rounds: int, least: float, compiled: bool) -> None:
    """Print one line a network."""
    raw, (side, images), dtype = load_params().raw, LATENTS[size], DTYPES[precision]
    arguments = (size, ModelSettings(**raw["models"][size]), raw["blocks"], side)
    flops = {name: forward_flops(network, side) for name, network in networks(*arguments).items()}
    torch.manual_seed(0)
    entered = networks(*arguments)
    if compiled:
        flops[COMPILED] = flops["LiquidNet"]
        torch.compiler.reset()  # after a few networks of one class it falls back to eager mode
        entered[COMPILED] = torch.compile(networks(*arguments)["LiquidNet"])
    made = {name: Contestant(n, side, images, dtype) for name, n in entered.items()}
    steps, forwards, peaks = {n: [] for n in made}, {n: [] for n in made}, []
    for _ in range(rounds):
        peaks.append(peak(dtype))
        for name, contestant in made.items():
            steps[name].append(images / seconds(contestant.step, least))
            forwards[name].append(images / seconds(contestant.forward, least / 3))
    for name, contestant in made.items():
        pairs = zip(steps[name], steps["LiquidNet"], strict=True)
        share = 3 * flops[name] * median(steps[name]) / median(peaks)
        print(
            f"| {size} {precision} | {name} | {parameters(contestant.network) / 1e6:.2f} M "
            f"| {median(steps[name]):.4g} | {median(forwards[name]):.4g} | {share:.0%} "
            f"| {median(rival / own for rival, own in pairs):.2f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement, at least")
    parser.add_argument("--compile", action="store_true", help="LiquidNet through torch.compile")
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
