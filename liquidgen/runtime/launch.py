"""Starts a stage in several processes, with torchrun's engine."""

import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.runtime.signals import INTERRUPTED

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

GRACE = 30  # seconds that a process may take to save before it is killed
HEAD_START = 2  # seconds


def is_worker() -> bool:
    """Whether torchrun, `accelerate launch` or `launch` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def wait_for_rank_zero() -> None:
    """Let the first process speak before this one fails, because it may have the same to say."""
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(HEAD_START)


def launch(num_processes: int) -> int:
    """Run this process's own command in so many processes; returns the exit code.

    When one ends badly the others are stopped. Signals are passed on to all.
    """
    # torch takes a second: only who asks for several processes waits for it
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for part in ("", ".agent.server.api"):  # which has a level of its own
        logging.getLogger(f"torch.distributed.elastic{part}").setLevel(logging.CRITICAL)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with tempfile.TemporaryDirectory() as logs:
        # the first process speaks for all; the others are heard when they are why it failed
        quiet = dict.fromkeys(range(1, num_processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=f"liquidgen-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=GRACE,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=quiet),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
        except ChildFailedError as error:
            return _explained(*error.get_first_failure(), Path(logs))
        except SignalException:
            return INTERRUPTED  # the processes had the signal, too: the first speaks
    return 0


def _explained(rank: int, failure: "ProcessFailure", logs: Path) -> int:
    """Say what ended a stage's processes, if the first has not said it; the exit code."""
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        print(
            f"error: process {rank} was killed by {name}, so the others were stopped, too; "
            "`dvc repro` goes on",
            file=sys.stderr,
        )
    elif rank > 0:
        said = "".join(path.read_text() for path in logs.glob(f"*/attempt_0/{rank}/stderr.log"))
        print(f"process {rank}: {said.strip()}", file=sys.stderr)
    return INTERRUPTED if failure.exitcode == INTERRUPTED else 1
