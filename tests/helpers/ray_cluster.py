"""A cluster of Ray on this machine, with several nodes of one CPU each, in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

NUM_NODES = 3  # the first one is the head

PROGRAM = """
import json, os, sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # Ray prints what happens to nodes
import ray
from ray.cluster_utils import Cluster
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

def set_version(version):
    key, space = b"CLUSTER_METADATA", b"cluster"
    found = json.loads(_internal_kv_get(key, namespace=space))
    found["ray_version"] = version
    _internal_kv_put(key, json.dumps(found).encode(), namespace=space)

head = {"num_cpus": 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
others = [cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1]) - 1)]
ray.init(cluster.address, log_to_driver=False)
print(cluster.address, file=answers)
for line in sys.stdin:  # a command; the end of input ends the cluster
    match line.split():
        case ["add"]:
            others.append(cluster.add_node(num_cpus=1))
        case ["remove"]:
            cluster.remove_node(others.pop(), allow_graceful=False)
        case ["version", version]:
            set_version(version)
    print("done", file=answers)
ray.shutdown()
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

    def workers(self, name: str) -> list[psutil.Process]:
        """Return the processes of Ray's workers of a kind."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [child for child in children if child.name().startswith(f"ray::{name}"[:15])]

    def claim_version(self, version: str) -> None:
        """Let the cluster say that it is of this version of Ray."""
        self._ask(f"version {version}")

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
