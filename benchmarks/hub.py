"""Time and memory to get images from the hub against reading the same Parquet files directly.

    python -m benchmarks.hub --images 2000
    python -m benchmarks.hub --images 2000 --encode

The hub is the tests' stand-in on this machine, in a process of its own: no network and no server
count, only our code and the hub's clients. Each way writes raw images, as the stage download does,
and with --encode also the latents of params.yaml, in a process of its own. Its largest resident set
is printed beside that of a process that imports the same modules and does nothing. A stream takes
the images from files that hold twice as many, and its bytes are counted. `killed` is a stream that
is killed after half of its time and runs again. Linux only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
WAYS = ("idle", "parquet", "download", "stream", "killed")
REPO = "huggan/wikiart"
FILES = 8
GROUP = 100  # rows per row group


def one_way(way: str, source: str, images: int, folder: Path, and_encode: bool) -> dict[str, float]:
    """Measure the seconds, MB and images of one way, in this process."""
    import datasets
    import huggingface_hub

    from liquidgen.config.params import load_params
    from liquidgen.config.settings import HubSettings, ParquetSettings
    from liquidgen.stages.download.download import download

    assert datasets.IterableDataset
    assert huggingface_hub.snapshot_download  # imported when first used: not counted here
    params = load_params(ROOT / "params.yaml")
    block = HubSettings(**params.raw["datasets"]["wikiart_stream"])
    half = [f"data/train-{number:05d}-of-00072.parquet" for number in range(FILES // 2)]
    settings = {
        "parquet": ParquetSettings(
            kind="parquet",
            path=source,
            image_column=block.image_column,
            label_column=block.label_column,
            classes=None,
            max_images=None,
            holdout_fraction=block.holdout_fraction,
            license=block.license,
        ),
        "download": block.model_copy(
            update={"files": half, "stream_buffer": None, "max_images": None}
        ),
        "stream": block.model_copy(update={"max_images": images}),
    }
    if and_encode:
        from benchmarks.preparation import encode_raw
    print("ready", flush=True)
    info = None
    start = time.perf_counter()
    if way != "idle":
        info = download(settings[way], params.download, folder / "raw", num_workers=0)
    if info and and_encode:
        encode_raw(folder, params)
    seconds = time.perf_counter() - start
    # not getrusage, whose value a process inherits from its parent
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    peak = int(line.split()[1]) * 1024 / 1e6
    count = sum(split.count for split in info.splits.values()) if info else 0
    return {"seconds": seconds, "mb": peak, "images": count}


def timed(
    way: str, source: str, images: int, endpoint: str, and_encode: bool, kill_after: float = 0
) -> dict[str, float]:
    """Measure one way in a new process with an empty cache, after one that is killed, if any."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": folder}
        command = [sys.executable, "-m", "benchmarks.hub", "--way", way, "--source", source]
        command += ["--images", str(images), "--folder", folder, *["--encode"] * and_encode]
        if kill_after:
            killed = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            assert killed.stdout.readline()  # its imports are done
            time.sleep(kill_after)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    return figures | {"seconds": figures["seconds"] + kill_after}


def main() -> None:
    """Print one line per way: the median of a few rounds in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encode", action="store_true", help="encode the images, too")
    parser.add_argument("--kb", type=int, default=0, help="pad each image to so many kB")
    for hidden in ("--way", "--source", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        folder = Path(options.folder)
        print(
            json.dumps(one_way(options.way, options.source, options.images, folder, options.encode))
        )
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.standin import StandInHub, presets

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "all"
        rows = -(-options.images // (FILES // 2))
        presets.wikiart(folder, files=FILES, rows=rows, group=GROUP, size=options.kb * 1000)
        direct = Path(name) / "direct"  # as many images as the other ways take
        direct.mkdir()
        for path in sorted(folder.rglob("*.parquet"))[: FILES // 2]:
            (direct / path.name).symlink_to(path)
        hub = StandInHub()
        hub.dataset(REPO, folder)
        for revision in hub.repositories["datasets", REPO].revisions.values():
            assert revision.siblings()  # computes the digests before a client waits for them
        report(hub, str(direct), options)


def report(hub: object, direct: str, options: argparse.Namespace) -> None:
    """Measure and print."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            hub.requests.clear()
            half = found["stream"][-1]["seconds"] / 2 if way == "killed" else 0
            run = "stream" if way == "killed" else way
            figures = timed(run, direct, options.images, hub.url, options.encode, half)
            figures["brought"] = sum(request.bytes for request in hub.requests) / 1e6
            found[way].append(figures)
    middle = {
        way: {key: median(one[key] for one in rounds) for key in rounds[0]}
        for way, rounds in found.items()
    }
    base = middle["parquet"]["seconds"]
    for way, figures in middle.items():
        rate = figures["images"] / figures["seconds"] if figures["images"] else 0
        print(
            f"{way:9} {figures['images']:5.0f} images in {figures['seconds']:6.2f} s "
            f"({rate:6.0f} images/s, {figures['seconds'] / base:5.2f} of parquet's time), "
            f"peak {figures['mb']:5.0f} MB, {figures['brought']:7.1f} MB from the hub"
        )


if __name__ == "__main__":
    main()
