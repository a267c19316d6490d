"""Peak memory of each stage, each a process of its own, on little data.

    python -m benchmarks.memory --model nano --images 1024 --epochs 1 --samples 100

The number is the largest resident set, in MB, of any one process of the stage, as the kernel and
`/usr/bin/time -v` report it. It includes Python, torch (a bare `import torch` is printed for
comparison) and mapped file pages. On Linux and macOS.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES = ("download", "encode", "train", "sample", "evaluate")
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes


def peak_mb(arguments: list[str], folder: Path) -> float:
    """Return the peak of a Python process in a folder; exit with its output if it fails."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with open(folder / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit((folder / "output.txt").read_text())
    return usage.ru_maxrss * UNIT / 1e6


def copy_project(folder: Path, options: argparse.Namespace) -> None:
    """Copy the code and params.yaml, with little data and few epochs."""
    for name in ("liquidgen", "stages"):
        shutil.copytree(ROOT / name, folder / name)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["dataset"] = "procedural"
    params["model"] = options.model
    params["datasets"]["procedural"]["num_images"] = options.images
    params["train"]["num_epochs"] = options.epochs
    params["sample"]["num_images"] = options.samples
    params["evaluate"]["kid_subset_size"] = 10  # few images are held out; it needs no memory
    yaml.dump(params, folder / "params.yaml")


def main() -> None:
    """Print one line per stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        copy_project(Path(name), options)
        print(f"import torch {peak_mb(['-c', 'import torch'], Path(name)):.0f} MB")
        for stage in STAGES:
            print(f"{stage} {peak_mb(['-m', f'stages.{stage}'], Path(name)):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
