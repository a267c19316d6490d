"""Maps a function over items on all nodes of a cluster, by Ray Data."""

import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from liquidgen.cluster.connection import Cluster, cluster_errors

READ_AHEAD = 4  # answers of the head that a worker has asked for in advance

Item = TypeVar("Item")
# Asks the head for what belongs to several questions, in their order.
Ask = Callable[[Iterable[Any]], Iterator[Any]]


class Files(Protocol):
    """Reads and stores on the head, which has the files: nodes share no folder."""

    def read(self, question: Any) -> Any:
        """Return what a worker asks for."""

    def store(self, item: Any, result: Any) -> None:
        """Store the result of an item."""


def map_on_cluster(
    cluster: Cluster,
    items: Sequence[Item],
    files: Files,
    create: Callable[[], Callable[[Item, Ask], Any]],
    *,
    num_cpus: int,
) -> Iterator[Item]:
    """Apply a function to each item on some node, and yield the items whose result is stored.

    Workers may come and go: what a lost one had begun is done again.

    Args:
        cluster: The cluster.
        items: The items; small, as they travel to the workers.
        files: Reads and stores on this node.
        create: Called once per worker; returns the function of an item.
        num_cpus: CPUs of a worker, fewer where a node has fewer. It has one GPU if the cluster's
            device is one.

    Raises:
        UserError: A worker raised it, or the cluster failed.
        OSError: A file could not be read or a result not be stored.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # reports; errors are raised

    # an actor of this process: it ends with it
    here = NodeAffinitySchedulingStrategy(cluster.head, soft=False)
    head: Any = ray.remote(_Head).options(num_cpus=0, scheduling_strategy=here).remote(files)

    class Worker:
        def __init__(self) -> None:
            self.function: Callable[[Item, Ask], Any] | None = None

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            # not in __init__: an error there would be that of a dead actor
            self.function = self.function or create()
            item = pickle.loads(row["item"])
            result = self.function(item, lambda questions: _ask(head, questions))
            ray.get(head.store.remote(item, result))
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
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
    )
    with cluster_errors():
        for row in done.iter_rows():
            yield pickle.loads(row["item"])


class _Head:
    """Serves workers from the head."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self, question: Any) -> Any:
        return self._files.read(question)

    def store(self, item: Any, result: Any) -> None:
        self._files.store(item, result)


def _ask(head: Any, questions: Iterable[Any]) -> Iterator[Any]:
    """Yield the answers of the head to questions, some of them asked in advance."""
    import ray

    waiting: deque = deque()
    for question in questions:
        waiting.append(head.read.remote(question))
        if len(waiting) > READ_AHEAD:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())
