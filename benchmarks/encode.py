"""Throughput of encode against the bare autoencoder: images/s of both, in turns, in one run.

    python -m benchmarks.encode --images 4096 --size 64 --workers 2
    python -m benchmarks.encode --autoencoder taef1 --images 256 --size 256

Autoencoders of the hub have their real shape here, and random weights.

The bare autoencoder gets ready batches of 64 and all of torch's threads. Encode reads, decodes,
encodes, and writes shards. Both are timed from the first batch to the end of the work, without
loading torch. On a CPU, decoding takes its share of the cores: with d and a seconds of one core per
image for decoding and the autoencoder, encode reaches at most a / (a + d) of a bare loop that keeps
all cores busy. With the builtin autoencoder at 64 px that is about 0.9, so that 0.95 is out of
reach unless torch's threads waste some of the bare loop's time. d, a and this limit are printed,
too.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch

import liquidgen.latents.autoencoder
from liquidgen.config.params import load_params
from liquidgen.config.settings import AutoencoderSettings, DownloadSettings, ProceduralSettings
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import GroupDecoder
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.autoencoder import images_per_call
from liquidgen.stages.download.download import download
from liquidgen.stages.encode.encode import encode

MAX_SECONDS = 60  # of a measurement of the bare autoencoder


class FirstUse:
    """Wraps an autoencoder, and records the time of its first use."""

    def __init__(self, autoencoder: object) -> None:
        self._autoencoder = autoencoder
        self.time = None

    def __getattr__(self, name: str) -> object:
        if name == "encode" and self.time is None:
            self.time = time.perf_counter()
        return getattr(self._autoencoder, name)


def bare(autoencoder: object, batches: list[torch.Tensor], count: int) -> float:
    """Return images/s of the autoencoder alone, over `count` images or a minute."""
    start = time.perf_counter()
    done = 0
    for batch in cycle(batches):
        autoencoder.encode(batch)
        done += len(batch)
        spent = time.perf_counter() - start
        if done >= count or spent > MAX_SECONDS:
            return done / spent
    raise AssertionError("there are batches")


def cost(work: Callable[[], object], count: int) -> float:
    """Return milliseconds of one core per image, for work on `count` images in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work()  # warm up
    start = time.process_time()
    work()
    spent = time.process_time() - start
    torch.set_num_threads(threads)
    return 1000 * spent / count


def main() -> None:
    """Print one line per round, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoencoder", default="builtin", help="a block of params.yaml")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = ProceduralSettings(
            kind="procedural",
            license="CC0-1.0",
            num_images=options.images,
            render_size=options.size,
            seed=0,
            holdout_fraction=0.0625,
        )
        raw_settings = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)
        download(dataset, raw_settings, folder / "raw", num_workers=2)
        block = block_of(options.autoencoder, folder)
        ratios = [one_round(folder, block, options) for _ in range(options.rounds)]
    print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.3f}")


def block_of(name: str, folder: Path) -> AutoencoderSettings:
    """Return the block of an autoencoder, with random weights in place of a download."""
    block = AutoencoderSettings(**load_params().raw["autoencoders"][name])
    if block.path is None:
        return block
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers.standin import autoencoders

    autoencoders.save(block, autoencoders.SHAPES[name], folder / name)
    return block.model_copy(update={"path": str(folder / name), "sha256": None})


def one_round(folder: Path, block: AutoencoderSettings, options: argparse.Namespace) -> float:
    """Return the rate of encode, divided by the mean rate of the bare autoencoder around it."""
    load = liquidgen.latents.autoencoder.load_autoencoder
    autoencoder = FirstUse(load(block, "cpu"))
    transform = ImageTransform.of(load_params().encode, options.size)
    decoder = GroupDecoder(transform, split_number=0)
    raw = [*islice(RawDataset(folder / "raw").groups("train"), 8)]
    arrays = [decoder(group).pixels for group in raw]
    pixels = [torch.from_numpy(a).permute(0, 3, 1, 2).float() / 127.5 - 1 for a in arrays]
    count = len(pixels[0])
    decoding = cost(lambda: decoder(raw[0]), count)
    few = pixels[0][: images_per_call(options.size**2, torch.device("cpu"))]
    encoding = cost(lambda: autoencoder.encode(few), len(few))
    before = bare(autoencoder, pixels, options.images)
    autoencoder.time = None
    liquidgen.latents.autoencoder.load_autoencoder = lambda settings, device: autoencoder
    encode(
        folder / "raw",
        folder / "latents",
        work_folder=folder / "work",
        autoencoder_settings=block,
        image_size=options.size,
        settings=load_params().encode,
        device="cpu",
        num_workers=options.workers,
    )
    rate = options.images / (time.perf_counter() - autoencoder.time)
    liquidgen.latents.autoencoder.load_autoencoder = load
    after = bare(autoencoder, pixels, options.images)
    ratio = 2 * rate / (before + after)
    limit = encoding / (encoding + decoding)
    print(
        f"one core: decoding {decoding:.2f} ms, autoencoder {encoding:.2f} ms: limit {limit:.3f}; ",
        end="",
    )
    print(f"bare {before:.3g} and {after:.3g} images/s, encode {rate:.3g}: ratio {ratio:.3f}")
    return ratio


if __name__ == "__main__":
    main()
