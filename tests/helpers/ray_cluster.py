"""A cluster of Ray on this machine, with several nodes of one CPU each, in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NUM_NODES = 3  # the first one is the head

PROGRAM = """
import os, sys
from ray.cluster_utils import Cluster

head = {"num_cpus": 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
others = [cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1]) - 1)]
print(cluster.address, flush=True)
for line in sys.stdin:  # "add" or "remove"; the end of input ends the cluster
    if line.strip() == "add":
        others.append(cluster.add_node(num_cpus=1))
    else:
        cluster.remove_node(others.pop(), allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""


class LocalCluster:
    """A running cluster.

    Attributes:
        address: Its address, host:port.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._read()

    def lose_node(self) -> None:
        """Kill all processes of the node that was added last."""
        self._ask("remove")

    def add_node(self) -> None:
        """Start a node."""
        self._ask("add")

    def _ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._read() == "done"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster ended"
        return line


@contextmanager
def local_cluster(home: Path) -> Iterator[LocalCluster]:
    """Start a cluster whose nodes have a home folder of their own, and stop it at the end."""
    # by default Ray lowers the priority of workers: other work of this machine would starve them
    environment = os.environ | {"HOME": str(home), "RAY_worker_niceness": "0"}
    command = [sys.executable, "-c", PROGRAM, str(NUM_NODES)]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield LocalCluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
