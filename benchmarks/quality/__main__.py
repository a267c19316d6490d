"""Quality per second: LiquidNet beside rivals of equal parameters, trained alike.

    OMP_NUM_THREADS=1 python -m benchmarks.quality work/quality/procedural-64-nano

All contestants train by the pipeline's own steps (flow matching, EMA, the section `train` of
params.yaml) on latents that the pipeline's stages made in the folder, with the same order of
samples, noise, times and dropped labels. First each one's learning rate is searched with the first
seed: at least three rates, and more until the best of them is not at the edge. Then each trains
with its best rate and all seeds. They take turns of some steps, the one with the fewest seconds
first, so that a busy machine hurts all. Measured are the validation loss, in total and by quarter
of t, own CPU seconds of the training steps, and images. At the end images of each contestant's best
training are scored as the pipeline scores samples.

The search takes only the beginning of a training, where a constant rate favors higher ones. Killed
at any time, the command goes on where it was. Started several times with the same folder,
one process per core, the processes share the work. The folder gets `points.jsonl` (every
measurement), `report.md` (tables), `seconds.png` and `images_seen.png`, and `options.json`: options
that a later call leaves out are those of the one before.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from benchmarks.preparation import changes, run_command
from benchmarks.quality.field import CONTESTANTS, Field
from benchmarks.quality.plan import Plan, Standing
from benchmarks.quality.report import write_report
from benchmarks.quality.run import Run
from benchmarks.quality.scores import score, unscored
from liquidgen.compute.device import keep_freed_memory
from liquidgen.config.params import load_params
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import write_json

OPTIONS = "options.json"
WAIT = 5  # seconds between looks, where other processes hold all that is left


def train(plan: Plan) -> None:
    """Train until nothing of the plan is left."""

    def turn(run: Run) -> None:
        point = run.turn()
        print(
            f"{run.folder.name}: step {point['step']}, {point['seconds']:.0f} s, "
            f"validation loss {point['validation_loss']:.4f}",
            flush=True,
        )
        write_report(plan)

    share(lambda: Standing(plan).unfinished(), turn)


def share(left: Callable[[], Sequence[Run]], work: Callable[[Run], None]) -> None:
    """Work on the first free one of what is left, until nothing is, beside other processes."""
    while runs := left():
        for run in runs:
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0)
            try:
                with lock:
                    if run in left():  # and not done by another process since
                        work(run)
                        break
            except Timeout:
                continue
        else:
            time.sleep(WAIT)


DEFAULTS = {
    "set": [],
    "contestants": list(CONTESTANTS),
    "rates": [1e-3, 2e-3, 4e-3],
    "seeds": [0, 1, 2],
    "scan_seconds": 300.0,
    "seconds": 4000.0,
    "turn": 200,
}


def options() -> argparse.Namespace:
    """Read the command line; what it leaves out is as in the folder's last call, or the default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("folder", type=Path, help="of data, trainings and results")
    parser.add_argument("--set", nargs="+", metavar="KEY=VALUE", help="other values of params.yaml")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--scan-seconds", type=float, help="CPU seconds of each rate of the search")
    parser.add_argument("--seconds", type=float, help="CPU seconds of each training")
    parser.add_argument("--turn", type=int, help="steps between measurements")
    parser.add_argument(
        "--report", action="store_true", default=False, help="only write the results so far"
    )
    given = parser.parse_args()
    path = given.folder / OPTIONS
    before = json.loads(path.read_bytes()) if path.exists() else {}
    return argparse.Namespace(**DEFAULTS | before | vars(given))


def main() -> None:
    """Train, score, report."""
    chosen = options()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    if chosen.turn < 1:
        raise UserError("--turn: at least 1 step")
    if chosen.report and not (chosen.folder / "latents").exists():
        raise UserError(f"{chosen.folder}: nothing to report; run it without --report")
    params = load_params(changes=changes(chosen.set))
    plan = Plan(
        Field(chosen.folder, params, chosen.turn),
        contestants=chosen.contestants,
        rates=chosen.rates,
        seeds=chosen.seeds,
        scan_seconds=chosen.scan_seconds,
        seconds=chosen.seconds,
    )
    if not chosen.report:
        write_json(chosen.folder / OPTIONS, {name: getattr(chosen, name) for name in DEFAULTS})
        train(plan)
        share(lambda: unscored(Standing(plan)), lambda run: score(Standing(plan), run))
    write_report(plan)
    print((chosen.folder / "report.md").read_text())


if __name__ == "__main__":
    run_command(main)
