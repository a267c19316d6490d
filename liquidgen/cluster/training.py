"""Runs the processes of a training on the nodes of a cluster, by Ray Train."""

import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

from liquidgen.cluster.connection import KEY, LOGS, Cluster, cluster_errors
from liquidgen.cluster.files import CACHE, FolderServer, copy_folder
from liquidgen.compute.distributed import COLLECTIVE_TIMEOUT, backend_of, is_lost_peer
from liquidgen.config.params import Params
from liquidgen.latents.manifest import read_manifest
from liquidgen.latents.shards import verify
from liquidgen.runtime.signals import request_interrupt
from liquidgen.utils.errors import UserError, reason_of

logger = logging.getLogger(__name__)

NODE = "ray.io/node-id"  # label that each node has
QUICK_SECONDS = 120.0  # a loss so soon after the start may have a cause that stays
MOST_QUICK_LOSSES = 5  # of the same nodes: Ray notices within a minute that one is gone
POLL_SECONDS = 1.0  # between questions whether to stop
STOP_SECONDS = 60.0  # for all processes to save and end
ENVIRONMENT = ("AWS_", "DVC_", "HF_", "MLFLOW_")  # variables of the stage that rank 0 needs
Stage = Callable[[Params, Path], str | None]


def train_on_cluster(cluster: Cluster, stage: Stage, params: Params, root: Path) -> str | None:
    """Run a stage in several processes on the nodes of a cluster, and wait for them.

    Rank 0 runs on this node, in this working directory, and prints and records as without a
    cluster. The others need no folder of this machine: latents are copied to their disks once. When
    a node or a process is lost, all are stopped and go on from the last checkpoint, with as many as
    there are places for.

    Args:
        cluster: The cluster.
        stage: The main function of the stage, importable by name.
        params: All settings.
        root: Root of the checkout.

    Returns:
        The closing line of rank 0.

    Raises:
        UserError: A process raised it, the head has no place for a process, or processes are lost
            again and again.
        KeyboardInterrupt: This process was told to stop; all progress is saved.
    """
    wanted = params.machine.num_processes
    quick_losses = 0
    while quick_losses < MOST_QUICK_LOSSES:
        size = _world_size(cluster, wanted, params.train.batch_size)
        if size < wanted:
            logger.warning(
                "train: in %d of %d processes (machine.num_processes), as many as have a place "
                "in the cluster and divide train.batch_size (%d)",
                size,
                wanted,
                params.train.batch_size,
            )
        began, nodes = time.monotonic(), cluster.ids
        processes = _Processes(cluster, params, root)
        reason = processes.run(stage, size)
        if reason is None:
            return processes.line
        logger.warning("train: a process was lost (%s); all go on from the last checkpoint", reason)
        is_quick = time.monotonic() - began < QUICK_SECONDS and cluster.ids == nodes
        quick_losses = quick_losses + 1 if is_quick else 0
    raise UserError(
        f"train: a process was lost {MOST_QUICK_LOSSES} times soon after the start ({reason}); "
        f"{LOGS}; `dvc repro` continues"
    )


def _world_size(cluster: Cluster, most: int, batch_size: int) -> int:
    """Return the largest number of processes that has a place and divides the batch.

    Raises:
        UserError: There is no place on the head, where rank 0 has its files.
    """
    resource = "GPU" if cluster.device == "cuda" else "CPU"
    if cluster.on_head(resource) < 1:
        raise UserError(
            f"{KEY}: this machine has no {resource} for Ray, but the first process of train runs "
            f"here; start Ray with `--num-{resource.lower()}s`, or train with machine.device: cpu"
        )
    places = min(most, cluster.count(resource))
    return max(n for n in range(1, places + 1) if batch_size % n == 0)


class _Processes:
    """Starts the processes of a training once, and learns how they ended.

    Args:
        cluster: The cluster.
        params: All settings.
        root: Root of the checkout.
    """

    def __init__(self, cluster: Cluster, params: Params, root: Path) -> None:
        self._cluster = cluster
        latents = params.latents_folder.absolute()
        self._desk = cluster.start_actor(_Desk, str(latents))
        self._config = {
            "params": params,
            "root": root.absolute(),
            "folder": Path.cwd(),
            "head": cluster.head,
            "pid": os.getpid(),
            "desk": self._desk,
            "digest": read_manifest(latents).digest,
        }

    @property
    def line(self) -> str | None:
        """The closing line of rank 0."""
        import ray

        return ray.get(self._desk.closing_line.remote())

    def run(self, stage: Stage, size: int) -> str | None:
        """Run the processes.

        Returns:
            None if they came to their end; why not if one was lost.

        Raises:
            BaseException: What a process raised.
        """
        with tempfile.TemporaryDirectory() as folder, cluster_errors():
            # in a thread, because Ray would take the signals of the main one
            fit = _Fit(self._trainer(stage, size, folder))
            fit.start()
            try:
                while not fit.done.wait(POLL_SECONDS):
                    pass
            except KeyboardInterrupt:
                self._desk.stop.remote()
                fit.done.wait(STOP_SECONDS)
                self._raise_error()
                raise
            if fit.failure is not None:
                self._raise_error()
            return fit.failure

    def _raise_error(self) -> None:
        """Raise what the first of the processes raised, if one did."""
        import ray

        for error in ray.get(self._desk.errors.remote()):
            raise error from None

    def _trainer(self, stage: Stage, size: int, folder: str) -> Any:
        from ray.train import FailureConfig, RunConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        backend = backend_of(self._cluster.device)
        timeout = int(COLLECTIVE_TIMEOUT / timedelta(seconds=1))
        # a loss is met by `train_on_cluster`, with another number of processes
        no_retries = FailureConfig(max_failures=0, controller_failure_limit=0)  # type: ignore[call-arg]
        return TorchTrainer(
            _process,
            train_loop_config=self._config | {"stage": stage},
            scaling_config=self._scaling(size),
            run_config=RunConfig(name="run", storage_path=folder, failure_config=no_retries),
            torch_config=TorchConfig(backend=backend, timeout_s=timeout),
        )

    def _scaling(self, size: int) -> Any:
        """Return the places of the processes, as equal in number per node as can be."""
        from ray.train import ScalingConfig

        use_gpu = self._cluster.device == "cuda"
        nodes = self._cluster.nodes
        per_node = -(-size // len(nodes))
        fewest = min(int(node["Resources"].get("CPU", 0)) for node in nodes)
        # beside a GPU one CPU each: with more, a node of many GPUs might not have enough
        resources = {"GPU": 1, "CPU": 1} if use_gpu else {"CPU": max(1, fewest // per_node)}
        # Ray orders ranks by node, and nodes by places: rank 0 is where the first place is
        return ScalingConfig(
            num_workers=size,
            use_gpu=use_gpu,
            resources_per_worker=resources,
            placement_strategy="SPREAD",
            label_selector=[{NODE: self._cluster.head}, *({} for _ in range(size - 1))],  # type: ignore[call-arg]
        )


class _Fit(Thread):
    """Runs Ray's trainer.

    Attributes:
        done: Set at the end; `join` takes a thread for ended after an interruption (Python 3.12).
        failure: Why it failed, None if it did not.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__(daemon=True)
        self._trainer = trainer
        self.done = Event()
        self.failure: str | None = None

    def run(self) -> None:
        """Run until all processes have ended."""
        from ray.train import TrainingFailedError

        try:
            self._trainer.fit()
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {0: error})
            last = [line for line in str(next(iter(failures.values()), error)).splitlines() if line]
            self.failure = (last or [type(error).__name__])[-1].strip()
        except Exception as error:
            self.failure = reason_of(error, lines=2)
        finally:
            self.done.set()


class _Desk(FolderServer):
    """Actor on the head: serves the latents, and hears from the ranks how they ended."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._line: str | None = None
        self._errors: dict[int, BaseException] = {}
        self._is_stopping = False

    def stop(self) -> None:
        self._is_stopping = True

    def is_stopping(self) -> bool:
        return self._is_stopping

    def end(self, line: str | None) -> None:
        self._line = line

    def fail(self, rank: int, error: BaseException) -> None:
        self._errors[rank] = error

    def closing_line(self) -> str | None:
        return self._line

    def errors(self) -> list[BaseException]:
        return [error for _, error in sorted(self._errors.items())]


def _process(config: dict[str, Any]) -> None:
    """Run the stage as one process of a training, on some node."""
    import ray

    rank = ray.train.get_context().get_world_rank()
    params: Params = config["params"]
    desk = config["desk"]
    Thread(target=_listen, args=(desk,), daemon=True).start()
    try:
        folder, root = config["folder"], config["root"]
        if ray.get_runtime_context().get_node_id() != config["head"]:
            folder = root = CACHE.expanduser() / config["digest"][:16]
            copy_folder(desk, folder / params.latents_folder, verify)
        os.chdir(folder)
        with _as_process(config["pid"]) if rank == 0 else nullcontext():
            line = config["stage"](params, root)
    except (Exception, KeyboardInterrupt) as error:
        if not is_lost_peer(error):
            _report(desk, rank, error)
        # the original is reported; a KeyboardInterrupt would end the process before Ray knows
        raise RuntimeError(f"process {rank}: {reason_of(error)}") from None
    if rank == 0:
        ray.get(desk.end.remote(line))


def _listen(desk: Any) -> None:
    """Ask the stage of this process to stop when the head says so."""
    import ray

    with suppress(ray.exceptions.RayError):
        while not ray.get(desk.is_stopping.remote()):
            time.sleep(POLL_SECONDS)
        request_interrupt()


def _report(desk: Any, rank: int, error: BaseException) -> None:
    """Tell the head what a rank raised; a bug with its stack trace, which would not travel."""
    import ray

    if not isinstance(error, UserError | OSError | KeyboardInterrupt):
        error.add_note(f"process {rank}:\n{traceback.format_exc()}")
    try:
        ray.get(desk.fail.remote(rank, error))
    except TypeError:  # it cannot be pickled
        ray.get(desk.fail.remote(rank, RuntimeError(f"process {rank}:\n{traceback.format_exc()}")))


@contextmanager
def _as_process(pid: int) -> Iterator[None]:
    """Print where another process of this machine and user prints, with variables of its own."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
        pairs = (item.partition("=") for item in text.split("\0"))
        os.environ |= {name: value for name, _, value in pairs if name.startswith(ENVIRONMENT)}
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    own = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        with suppress(OSError), open(f"/proc/{pid}/fd/{number}", "ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(own, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
