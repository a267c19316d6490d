"""Quality per second: LiquidNet beside rivals of equal parameters, trained alike.

    OMP_NUM_THREADS=1 python -m benchmarks.quality work/quality/procedural-64-nano

All contestants train by the pipeline's own steps (flow matching, AdamW, EMA, the section `train` of
params.yaml) on latents that the pipeline's stages made in the folder, with the same order of
samples, noise, times and dropped labels. First each one's learning rate is searched with the first
seed: at least three rates, and more until the best of them is not at the edge. Then each trains
with its best rate and all seeds. They take turns of some steps, the one with the fewest seconds
first, so that a busy machine hurts all. Measured are the validation loss, in total and by quarter
of t, own CPU seconds of the training steps, and images. At the end images of each contestant's best
training are scored as the pipeline scores samples.

Killed at any time, the command goes on where it was. Started several times with the same folder,
one process per core, the processes share the work. The folder gets `points.jsonl` (every
measurement), `report.md` (tables), `seconds.png` and `images.png`.
"""

import argparse
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from benchmarks.quality.field import Field, contestants
from benchmarks.quality.plan import Plan
from benchmarks.quality.report import write_report
from benchmarks.quality.scores import score
from liquidgen.compute.device import keep_freed_memory
from liquidgen.config.params import load_params
from liquidgen.utils.errors import UserError

WAIT = 5  # seconds between looks, where other processes hold all that is left


def train(plan: Plan, steps: int) -> None:
    """Train until nothing of the plan is left, beside other processes with the same folder."""
    while runs := plan.unfinished():
        for run in runs:
            lock = FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0)
            try:
                lock.acquire()
            except Timeout:  # another process has this one: take the next
                continue
            with lock:
                point = run.turn(steps)
            print(
                f"{run.folder.name}: step {point['step']}, {point['seconds']:.0f} s, "
                f"validation loss {point['validation_loss']:.4f}",
                flush=True,
            )
            break
        else:
            time.sleep(WAIT)
        write_report(plan)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of data, trainings and results")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other values of params.yaml"
    )
    known = contestants()
    parser.add_argument("--contestants", nargs="+", choices=known, default=known)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--scan-seconds", type=float, default=300, help="CPU seconds of each rate of the search"
    )
    parser.add_argument("--seconds", type=float, default=3700, help="CPU seconds of each training")
    parser.add_argument("--turn", type=int, default=200, help="steps between measurements")
    parser.add_argument("--report", action="store_true", help="only write the results so far")
    return parser.parse_args()


def main() -> None:
    """Train, score, report."""
    chosen = options()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    yaml = YAML(typ="safe")
    pairs = (pair.split("=", 1) for pair in chosen.set)
    params = load_params(changes={key: yaml.load(value) for key, value in pairs})
    plan = Plan(
        Field(chosen.folder, params),
        contestants=chosen.contestants,
        rates=chosen.rates,
        seeds=chosen.seeds,
        scan_seconds=chosen.scan_seconds,
        seconds=chosen.seconds,
    )
    if not chosen.report:
        train(plan, chosen.turn)
        for name in plan.contestants:
            score(plan, name)
    write_report(plan)
    print((chosen.folder / "report.md").read_text())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
