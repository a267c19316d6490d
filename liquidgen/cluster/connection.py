"""Connects to a Ray cluster, and explains in one line why it cannot."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import liquidgen
from liquidgen.config.settings import MachineSettings
from liquidgen.runtime.extras import require_extra
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.text import one_line

TIMEOUT_SECONDS = 5.0  # for an answer from the address
KEY = "machine.ray_address"
LOGS = "the logs are in /tmp/ray/session_latest/logs on each node"


@dataclass(frozen=True)
class Cluster:
    """A cluster of Ray to which this process is connected.

    Attributes:
        head: Ray's id of this node, which holds the checkout.
        device: Type of the workers' device, cpu or cuda.
    """

    head: str
    device: str

    @property
    def nodes(self) -> list[dict]:
        """The nodes that are alive, as `ray.nodes` describes them."""
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    @property
    def ids(self) -> set[str]:
        """Ray's ids of the nodes that are alive."""
        return {node["NodeID"] for node in self.nodes}

    def start_actor(self, kind: type, *args: object) -> Any:
        """Start an actor on this node, for the life of this process; returns its handle."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.head, soft=False)
        return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here).remote(*args)

    def count(self, resource: str) -> int:
        """Return how many CPUs or GPUs the nodes have that are alive."""
        return int(sum(node["Resources"].get(resource, 0) for node in self.nodes))

    def on_head(self, resource: str) -> int:
        """Return how many CPUs or GPUs this node has for Ray."""
        own = (node["Resources"] for node in self.nodes if node["NodeID"] == self.head)
        return int(sum(resources.get(resource, 0) for resources in own))

    def cpus_per_gpu(self) -> list[int]:
        """Return for each node with GPUs how many CPUs there are for one of them."""
        resources = [node["Resources"] for node in self.nodes]
        return [int(one.get("CPU", 0) // one["GPU"]) for one in resources if one.get("GPU", 0) >= 1]


@contextmanager
def cluster_of(machine: MachineSettings) -> Iterator[Cluster | None]:
    """Connect to the cluster of the settings, and disconnect at the end.

    This machine is one of its nodes. Every worker of Ray that works for this process uses its code
    of LiquidGen, whatever is installed there.

    Args:
        machine: Section `machine` of params.yaml; its device auto is cuda if a node has a GPU.

    Yields:
        The cluster; None with the local engine.

    Raises:
        UserError: There is no cluster at the address, it has another version of Ray or of Python
            or asks for a token, or it has no GPU though the work needs one.
    """
    if machine.engine == "local":
        yield None
        return
    require_extra("cluster")
    address, device = machine.ray_address, machine.device
    if address != "auto":
        _check_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    environment = {
        "py_modules": [str(Path(liquidgen.__file__).parent)],
        "excludes": ["__pycache__"],
        "worker_process_setup_hook": _use_network_of_ray,
    }
    try:
        with _own_signals():
            ray.init(
                address=address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, errors of its own
        ray.shutdown()
        raise UserError(
            f"{KEY}: no connection to {address} ({reason_of(error, lines=2)}); start Ray with "
            "`ray start --head` here and `ray start --address=...` on the others, with the same "
            "versions of Ray and Python"
        ) from None
    try:
        has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        if device.startswith("cuda") and not has_gpu:
            raise UserError(
                f"machine.device: {device}, but no node of the cluster has a GPU; set it to cpu or "
                "auto, or start Ray on a node that has one"
            )
        uses_gpu = has_gpu and device != "cpu"
        yield Cluster(ray.get_runtime_context().get_node_id(), "cuda" if uses_gpu else "cpu")
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    """Refuse an address where no Ray answers: `ray.init` would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_SECONDS).close()
        check = (sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address)
        done = subprocess.run(check, capture_output=True, text=True, timeout=2 * TIMEOUT_SECONDS)
        if done.returncode == 0:
            return
        reason = one_line("".join(done.stderr.strip().splitlines()[-6:])) or "no reason given"
    except (OSError, OverflowError, UnicodeError) as error:
        reason = reason_of(error)
    except subprocess.TimeoutExpired:
        reason = "another service answers"
    raise UserError(
        f"{KEY}: no Ray of this version answers at {address} ({reason}); start it there with "
        "`ray start --head`, or correct the address"
    )


def _use_network_of_ray() -> None:
    """Let collectives of this process use the network in which Ray has its node.

    By default gloo takes the address of the host's name, which is often one of the loopback.
    """
    import psutil
    import ray

    address = ray.util.get_node_ip_address()
    for name, entries in psutil.net_if_addrs().items():
        if address in {entry.address for entry in entries}:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers of signals: Ray would end it without a word."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Ray raises around an error of a worker into that error, or into one line."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # with the worker's stack trace in its text
    except ray.exceptions.RayError as error:
        raise UserError(
            f"cluster: {type(error).__name__}: {reason_of(error, lines=2)}; {LOGS}; run `dvc "
            "repro` again"
        ) from None
