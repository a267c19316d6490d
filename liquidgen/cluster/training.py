"""Runs the processes of a training on the nodes of a cluster, by Ray Train."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from liquidgen.cluster.connection import Cluster, cluster_errors, connected
from liquidgen.cluster.files import CACHE, FolderServer, copy_folder
from liquidgen.compute.distributed import COLLECTIVE_TIMEOUT, is_lost_peer
from liquidgen.config.params import Params
from liquidgen.latents.manifest import read_manifest
from liquidgen.latents.shards import verify
from liquidgen.utils.errors import UserError

logger = logging.getLogger(__name__)

NODE = "ray.io/node-id"  # label that each node has
MOST_LOSSES = 100  # of processes in one training, before it gives up
Stage = Callable[[Params, Path], str | None]


def train_on_cluster(stage: Stage, params: Params, root: Path) -> str | None:
    """Run a stage in several processes on the nodes of a cluster, and wait for them.

    Rank 0 runs on this node, in the checkout, and prints and records as without a cluster. The
    others need no folder of this machine: latents are copied to their disks once. When a node or a
    process is lost, all are stopped and go on from the last checkpoint, with as many as there are
    places for.

    Args:
        stage: The main function of the stage, importable by name.
        params: All settings.
        root: Root of the checkout.

    Returns:
        The closing line of rank 0.

    Raises:
        UserError: A process raised it, or the cluster failed.
    """
    machine = params.machine
    with connected(machine.ray_address, machine.device) as cluster:
        for _ in range(MOST_LOSSES):
            size = _world_size(cluster, machine.num_processes, params.train.batch_size)
            if size < machine.num_processes:
                logger.warning(
                    "train: in %d of %d processes (machine.num_processes), as many as have a place "
                    "in the cluster and divide train.batch_size (%d)",
                    size,
                    machine.num_processes,
                    params.train.batch_size,
                )
            head = _Head(cluster, root / params.latents_folder)
            if head.run(stage, params, root, size):
                return head.line
            logger.warning("train: a process was lost; all go on from the last checkpoint")
    raise UserError(f"train: {MOST_LOSSES} times a process was lost; `dvc repro` continues")


def _world_size(cluster: Cluster, most: int, batch_size: int) -> int:
    """Return the largest number of processes that has a place and divides the batch."""
    places = cluster.count("GPU" if cluster.device == "cuda" else "CPU")
    return max(n for n in range(1, max(1, min(most, places)) + 1) if batch_size % n == 0)


class _Head:
    """Starts the processes of a training once, and learns how they ended.

    Args:
        cluster: The cluster.
        latents: Folder of the latents.
    """

    def __init__(self, cluster: Cluster, latents: Path) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._cluster = cluster
        self._digest = read_manifest(latents).digest
        here = NodeAffinitySchedulingStrategy(cluster.head, soft=False)
        actor = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here)
        self._desk: Any = actor.remote(str(latents.absolute()))

    @property
    def line(self) -> str | None:
        """The closing line of rank 0."""
        import ray

        return ray.get(self._desk.outcome.remote(0))

    def run(self, stage: Stage, params: Params, root: Path, size: int) -> bool:
        """Run the processes.

        Returns:
            Whether they came to their end; False if one was lost.

        Raises:
            Exception: What a process raised.
        """
        import ray
        from ray.train import FailureConfig, RunConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer

        backend = "cpu:gloo,cuda:nccl" if self._cluster.device == "cuda" else "gloo"
        timeout = int(COLLECTIVE_TIMEOUT / timedelta(seconds=1))
        config = {
            "stage": stage,
            "params": params,
            "root": str(root.absolute()),
            "head": self._cluster.head,
            "terminal": os.getpid(),
            "desk": self._desk,
            "digest": self._digest,
        }
        with tempfile.TemporaryDirectory() as folder, cluster_errors():
            trainer = TorchTrainer(
                _process,
                train_loop_config=config,
                scaling_config=self._scaling(size),
                # a loss is met by `train_on_cluster`, with another number of processes
                run_config=RunConfig(
                    name="training",
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=0),
                ),
                torch_config=TorchConfig(backend=backend, timeout_s=timeout),
            )
            try:
                trainer.fit()
            except TrainingFailedError:
                for error in ray.get(self._desk.errors.remote()):
                    raise error from None
                return False
        return True

    def _scaling(self, size: int) -> Any:
        """Return the places of the processes, as equal in number per node as can be."""
        from ray.train import ScalingConfig

        nodes = self._cluster.nodes
        per_node = -(-size // len(nodes))
        num_cpus = min(int(node["Resources"].get("CPU", 1)) for node in nodes) // per_node
        use_gpu = self._cluster.device == "cuda"
        # Ray orders ranks by node, and nodes by places: rank 0 is where the first place is
        return ScalingConfig(
            num_workers=size,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": max(1, num_cpus)} | ({"GPU": 1} if use_gpu else {}),
            placement_strategy="SPREAD",
            label_selector=[{NODE: self._cluster.head}, *({} for _ in range(size - 1))],  # type: ignore[call-arg]
        )


class _Desk(FolderServer):
    """Actor on the head: serves the latents, and hears from each rank how it ended."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._outcomes: dict[int, str | None] = {}
        self._errors: dict[int, Exception] = {}

    def end(self, rank: int, line: str | None) -> None:
        self._outcomes[rank] = line

    def fail(self, rank: int, error: Exception) -> None:
        self._errors[rank] = error

    def outcome(self, rank: int) -> str | None:
        return self._outcomes.get(rank)

    def errors(self) -> list[Exception]:
        return [error for _, error in sorted(self._errors.items())]


def _process(config: dict[str, Any]) -> None:
    """Run the stage as one process of a training, on some node."""
    import ray

    rank = ray.train.get_context().get_world_rank()
    params: Params = config["params"]
    desk = config["desk"]
    try:
        if ray.get_runtime_context().get_node_id() == config["head"]:
            os.chdir(config["root"])
        else:
            folder = CACHE.expanduser() / config["digest"][:16]
            copy_folder(desk, folder / params.latents_folder, verify)
            os.chdir(folder)
        with _printing_to(config["terminal"]) if rank == 0 else nullcontext():
            line = config["stage"](params, Path.cwd())
    except Exception as error:
        if not is_lost_peer(error):
            ray.get(desk.fail.remote(rank, error))
        raise
    ray.get(desk.end.remote(rank, line))


@contextmanager
def _printing_to(pid: int) -> Iterator[None]:
    """Print where another process prints: bars and warnings look as without a cluster."""
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
