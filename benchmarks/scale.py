"""How seconds and memory of encode and of a training's start grow with the number of images.

    OMP_NUM_THREADS=1 python -m benchmarks.scale --images 10000 100000 1000000

Images of 16 px, each encoded to latents of 2x2, so that a million fits on a disk (about 3 GB). Each
step runs in a process of its own; its largest resident set is printed less that of a process that
imports the same modules and does nothing. `exponent` is the slope between the smallest and the
largest set: 1 is linear, 0 constant. Files are read from the system's cache. Linux only.
"""

import argparse
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.preparation import encode_raw
from liquidgen.config.params import load_params
from liquidgen.images.raw import RawWriter, Record
from liquidgen.latents.shards import LatentDataset, batches, epoch_order, verify
from liquidgen.utils.files import new_folder

SIDE = 16  # px
CLASSES = 10
HOLDOUT = 512
BATCHES = 1000  # that are loaded, of 32 samples


def write_raw(folder: Path, count: int) -> None:
    """Write noise of one color per image, in the raw format."""
    random = np.random.default_rng(0)
    classes = tuple(f"class{number}" for number in range(CLASSES))
    with new_folder(folder) as temporary, RawWriter(temporary, classes, 256) as writer:
        for number in range(count + HOLDOUT):
            noise = random.integers(0, 64, (SIDE, SIDE, 3)) + random.integers(0, 192, 3)
            file = io.BytesIO()
            Image.fromarray(noise.astype(np.uint8)).save(file, "PNG", compress_level=0)
            split = "train" if number < count else "holdout"
            writer.add(split, Record(file.getvalue(), f"{number}.png", number % CLASSES))
        writer.finish(license="CC0-1.0", origin="noise", revision=None, refused={})


def encode(folder: Path) -> None:
    """Encode the raw images."""
    encode_raw(folder, load_params(changes={"image_size": SIDE}))


def load(folder: Path) -> None:
    """Load batches in the order of an epoch; less the time to open the folder, see `main`."""
    dataset = LatentDataset(folder / "latents", "train")
    for indices in islice(batches(len(dataset), 32, 0, 0), BATCHES):
        dataset.batch(indices)


STEPS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "encode": encode,
    "verify the shards": lambda folder: verify(folder / "latents", quiet=True),
    "open the shards": lambda folder: LatentDataset(folder / "latents", "train"),
    "order of an epoch": lambda folder: epoch_order(
        len(LatentDataset(folder / "latents", "train")), 0, 0
    ),
    f"load {BATCHES} batches": load,
}


def run_step(name: str, folder: Path) -> dict[str, float]:
    """Run a step in this process; returns its seconds and the largest resident set in MB."""
    began = time.perf_counter()
    STEPS[name](folder)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak}


def measured(name: str, folder: Path) -> dict[str, float]:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table: a row per step, two columns per number of images."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="of the data, instead of a temporary one")
    options = parser.parse_args()
    if options.step:
        print(json.dumps(run_step(options.step, options.folder)))
        return

    found: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        for count in sorted(options.images):
            folder = Path(parent) / str(count)
            folder.mkdir()
            write_raw(folder / "raw", count)
            found[count] = {name: measured(name, folder) for name in STEPS}
            size = (folder / "latents/manifest.json").stat().st_size
            print(f"{count:,} images: a manifest of {size:,} bytes", file=sys.stderr)

    fewest, most = min(found), max(found)
    print("| step |" + "".join(f" {n:,} images: s, MB |" for n in found) + " exponent of seconds |")
    print("|---|" + "---|" * (len(found) + 1))
    for name in list(STEPS)[1:]:
        cells = [
            f"{steps[name]['seconds']:.2f}, {steps[name]['peak'] - steps['nothing']['peak']:.0f}"
            for steps in found.values()
        ]
        ratio = found[most][name]["seconds"] / found[fewest][name]["seconds"]
        exponent = math.log(ratio) / math.log(most / fewest) if most > fewest else math.nan
        print(f"| {name} | {' | '.join(cells)} | {exponent:.2f} |")


if __name__ == "__main__":
    main()
