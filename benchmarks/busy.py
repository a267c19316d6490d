"""Training steps on a machine that is quiet, and beside another busy process: images/s, in turns.

    python -m benchmarks.busy --seconds 2 --rounds 15

Compared are the spins that LiquidGen sets for threads that wait (see liquidgen/__init__.py) and
those that torch's OpenMP has by itself. How threads wait is fixed when torch is loaded, so each
side is a process of its own, which waits while another is measured. The busy process is a loop
without end. Other programs disturb: a run during which they used more than a tenth of a core is
left out, and counted.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from liquidgen.compute.device import keep_freed_memory
from liquidgen.config.params import Params, load_params
from liquidgen.latents.contract import latent_shape, sample_size
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.learner import Learner

OURS = "LiquidGen"
DEFAULT = "torch's default"
DEFAULT_SPINS = "300000"  # of libgomp
WARM_UP = 4  # steps that are not timed
DISTURBED = 0.1  # cores that other programs use
NUM_CLASSES = 10
# ends with its parent
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


class Side:
    """A process that trains for some seconds whenever it is asked to."""

    def __init__(self, model: str, spins: str | None) -> None:
        unset = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")  # as by this process
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        if spins is not None:
            environment["GOMP_SPINCOUNT"] = spins
        command = (sys.executable, "-m", "benchmarks.busy", "--model", model, "--serve")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self._answer()

    def rate(self, seconds: float) -> tuple[float, float]:
        """Return images/s and the CPU seconds per second of this process."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        rate, own = self._answer().split()
        return float(rate), float(own)

    def _answer(self) -> str:
        return self.process.stdout.readline()


def serve(params: Params) -> None:
    """Train on random latents for as many seconds as each line of stdin says."""
    keep_freed_memory()
    torch.manual_seed(0)
    shape = latent_shape(params.autoencoder, params.selectors.image_size)
    network = LiquidNet(
        in_channels=shape[0],
        sample_size=sample_size(shape),
        num_classes=NUM_CLASSES,
        **params.model.model_dump(),
        block=params.selectors.block,
        block_settings=params.block,
    )
    learner = Learner(network, params.train, torch.device("cpu"))
    count = params.train.batch_size
    batch = torch.randn(count, *shape), torch.arange(count) % NUM_CLASSES
    for _ in range(WARM_UP):
        learner.train_step(*batch)
    print("ready", flush=True)
    for line in sys.stdin:
        steps = 0
        cpu = time.process_time()
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < float(line):
            learner.train_step(*batch)
            steps += 1
        print(steps * count / passed, (time.process_time() - cpu) / passed, flush=True)


@contextmanager
def busy_process():
    """Keep one core busy."""
    with subprocess.Popen((sys.executable, "-c", BUSY)) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def cpu_seconds(pid: int | None = None) -> float:
    """Return the CPU seconds of a process, or of the whole machine, since their start."""
    if pid is None:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        idle = int(fields[3]) + int(fields[4])
        jiffies = sum(map(int, fields)) - idle
    else:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        jiffies = int(fields[11]) + int(fields[12])
    return jiffies / os.sysconf("SC_CLK_TCK")


def measure(side: Side, seconds: float, beside: int | None) -> tuple[float, float]:
    """Return images/s, and the cores that other programs used meanwhile."""

    def others() -> float:
        return cpu_seconds() - (cpu_seconds(beside) if beside else 0)

    before, started = others(), time.perf_counter()
    rate, own = side.rate(seconds)
    return rate, (others() - before) / (time.perf_counter() - started) - own


def main() -> None:
    """Print one line per side, with the medians of its rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=load_params().selectors.model)
    parser.add_argument("--seconds", type=float, default=2, help="of one run")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--spins", nargs="*", default=[], help="other numbers to compare")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(load_params(changes={"model": options.model}))
        return
    sides = {DEFAULT: Side(options.model, DEFAULT_SPINS), OURS: Side(options.model, None)}
    sides |= {f"{spins} spins": Side(options.model, spins) for spins in options.spins}
    rates: dict[tuple[str, bool], list[float]] = defaultdict(list)
    left_out = 0
    for _ in range(options.rounds):
        for name, side in sides.items():
            quiet = measure(side, options.seconds, None)
            with busy_process() as pid:
                busy = measure(side, options.seconds, pid)
            for is_busy, (rate, others) in enumerate((quiet, busy)):
                if others > DISTURBED:
                    left_out += 1
                else:
                    rates[name, bool(is_busy)].append(rate)
    print(f"{left_out} of {len(sides) * options.rounds * 2} runs left out: other programs ran")
    for side in sides.values():
        side.process.kill()
    needed = [(name, is_busy) for name in sides for is_busy in (False, True)]
    if not all(rates[key] for key in needed):
        sys.exit("too few runs are left: close other programs")
    reference = median(rates[DEFAULT, False])
    for name in sides:
        quiet, busy = median(rates[name, False]), median(rates[name, True])
        print(
            f"{name:16} quiet {quiet:5.1f} images/s, {quiet / reference:.2f} of torch's default; "
            f"beside a busy process {busy:5.1f}, {busy / quiet:.2f} of quiet"
        )


if __name__ == "__main__":
    main()
