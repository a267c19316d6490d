"""Maps a function over items on all nodes of a cluster, by Ray Data."""

import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from liquidgen.cluster.connection import Cluster, cluster_errors

READ_AHEAD = 4  # answers of the head that a worker has asked for in advance

Item = TypeVar("Item")
# Asks the head for what belongs to several questions, in their order.
Ask = Callable[[Iterable[Any]], Iterator[Any]]


def map_on_cluster(
    cluster: Cluster,
    items: Sequence[Item],
    files: Any,
    create: Callable[[], Callable[[Item, Ask], Any]],
    *,
    num_cpus: int,
) -> Iterator[Item]:
    """Apply a function to each item on some node, and yield the items whose result is stored.

    Workers may come and go: what a lost one had begun is done again.

    Args:
        cluster: The cluster.
        items: The items; small, as they travel to the workers.
        files: Handle of an actor on this node, which has the files: nodes share no folder. Its
            `read` answers a question of a worker, and `store` stores an item's result.
        create: Called once per worker; returns the function of an item.
        num_cpus: CPUs of a worker, fewer where a node has fewer. It has one GPU if the cluster's
            device is one.

    Raises:
        UserError: A worker raised it, or the cluster failed.
        OSError: A file could not be read or a result not be stored.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    # a pool of busy workers grows: with one item for each its utilization is at most 1
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # reports; errors are raised

    class Worker:
        def __init__(self) -> None:
            self.function: Callable[[Item, Ask], Any] | None = None

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            # not in __init__: an error there would be that of a dead actor
            self.function = self.function or create()
            item = pickle.loads(row["item"])
            result = self.function(item, lambda questions: _ask(files, questions))
            ray.get(files.store.remote(item, result))
            return row

    num_gpus = int(cluster.device == "cuda")
    if num_gpus:  # a worker must fit beside the others of its node
        num_cpus = min([num_cpus, *cluster.cpus_per_gpu()])
    slots = cluster.count("GPU") if num_gpus else cluster.count("CPU") // num_cpus
    size = max(1, min(slots, len(items)))
    rows = [{"item": pickle.dumps(item)} for item in items]
    done = ray.data.from_items(rows, override_num_blocks=len(items)).map(
        Worker,  # type: ignore[arg-type]  # a class: called once per worker
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        # All workers start at once. Each has one item at a time: at the end none waits behind
        # another while a worker is idle.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=1
        ),
    )
    with cluster_errors():
        for row in done.iter_rows():
            yield pickle.loads(row["item"])


def _ask(files: Any, questions: Iterable[Any]) -> Iterator[Any]:
    """Yield the answers of the head to questions, some of them asked in advance."""
    import ray

    waiting: deque = deque()
    for question in questions:
        waiting.append(files.read.remote(question))
        if len(waiting) > READ_AHEAD:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())
