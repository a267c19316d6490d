"""Launches one stage in several processes through torchrun's elastic agent."""

import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.runtime.signals import INTERRUPTED, termination_signals

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

SHUTDOWN_TIMEOUT_SECONDS = 30  # for a rank to save its progress before it is killed
RANK_ZERO_HEAD_START_SECONDS = 2


def is_worker() -> bool:
    """Return whether torchrun, `accelerate launch` or `launch` runs this process among several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def wait_for_rank_zero() -> None:
    """Delay ranks > 0 so that rank 0 reports an error that they share first."""
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(RANK_ZERO_HEAD_START_SECONDS)


def launch(num_processes: int) -> int:
    """Run the command of this process in several processes and wait for them.

    If one fails, the others are stopped. Signals are forwarded to all of them.

    Returns:
        The exit code for this process.
    """
    # slow import, which single-process stages do not need
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("", ".agent.server.api"):  # the second one sets a level of its own
        logging.getLogger(f"torch.distributed.elastic{name}").setLevel(logging.CRITICAL)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # torchrun's own choice includes SIGHUP, also under nohup
    handled = (signal.SIGINT, signal.SIGQUIT, *termination_signals())
    names = ",".join(number.name for number in handled)
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", names)
    with tempfile.TemporaryDirectory() as log_dir:
        # only rank 0 prints; the logs of the others are shown when they are the first to fail
        redirects = dict.fromkeys(range(1, num_processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=f"liquidgen-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=log_dir, redirects=redirects),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            return _report(rank, failure, Path(log_dir))
        except SignalException:
            return INTERRUPTED  # the ranks received the signal, too, and rank 0 prints a message
    return 0


def _report(rank: int, failure: "ProcessFailure", log_dir: Path) -> int:
    """Print why a rank failed, unless rank 0 has printed it already; returns the exit code."""
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        print(
            f"error: process {rank} was killed by {name}, so the others were stopped, too; "
            "`dvc repro` continues",
            file=sys.stderr,
        )
    elif rank > 0:
        logs = log_dir.glob(f"*/attempt_0/{rank}/stderr.log")
        stderr = "".join(path.read_text() for path in logs)
        print(f"process {rank}: {stderr.strip()}", file=sys.stderr)
    return INTERRUPTED if failure.exitcode == INTERRUPTED else 1
