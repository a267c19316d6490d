"""Everything that only a GPU can tell, the most valuable first.

    python -m benchmarks.gpu --minutes 8 --out work/gpu

The parts run in this order, and each writes its results as they come, so that a run that is cut off
loses only what was under way:

    tests        the tests marked `gpu`
    precision    the loss curve of nano on the GPU, in each precision, beside that of the CPU
    overflow     loss scaling of fp16 through an overflow
    throughput   training steps per second, share of peak and memory of small, base and large at
                 256 px beside a DiT: precisions, memory layouts, torch.compile
    autoencoder  encoding and decoding with the network of FLUX, with random weights
    sampling     images per second of each size with guidance
    loader       the training of nano against a bare loop over ready tensors

The folder gets `results.jsonl` and `report.md`. Without a GPU there is nothing to measure;
`--rehearse` runs every part small on a CPU, to see that it works.
"""

import argparse
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu import autoencoder, commands, precision, sampling, throughput
from benchmarks.gpu.report import write_report
from benchmarks.gpu.session import Session
from liquidgen.utils.errors import UserError

PARTS: dict[str, Callable[[Session], None]] = {
    "tests": commands.run_tests,
    "precision": precision.run_curves,
    "overflow": precision.run_overflow,
    "throughput": throughput.run,
    "autoencoder": autoencoder.run,
    "sampling": sampling.run,
    "loader": commands.run_loader,
}


def run_parts(session: Session, names: list[str]) -> list[str]:
    """Run the parts while time is left; returns the names of those that failed."""
    failed = []
    for name in names:
        if session.seconds_left <= 0:
            session.record(name, skipped="no time was left")
            write_report(session)
            continue
        started = time.monotonic()
        session.reset_peak_memory()
        try:
            PARTS[name](session)
        except Exception as error:  # the other parts are worth having, too
            traceback.print_exc()
            session.record(name, failed=f"{type(error).__name__}: {error}"[:500])
            failed.append(name)
        session.record("time", of=name, seconds=round(time.monotonic() - started, 1))
        write_report(session)
    return failed


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--minutes",
        type=float,
        default=8,
        help="begin nothing after these; the last part may take two more",
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rehearse", action="store_true", help="run all small, on the CPU")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        raise UserError("there is no GPU that torch can use; --rehearse tries the parts on a CPU")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out}: is a file; name a folder")
    options.out.mkdir(parents=True, exist_ok=True)
    session = Session(
        options.out,
        torch.device("cpu" if options.rehearse else "cuda"),
        time.monotonic() + 60 * options.minutes,
        options.rehearse,
    )
    if session.results.exists():
        raise UserError(f"{session.results}: results of another run; name another folder")
    failed = run_parts(session, options.parts)
    print((options.out / "report.md").read_text())
    if failed:
        raise UserError(f"failed: {', '.join(failed)}; the reasons are above")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
