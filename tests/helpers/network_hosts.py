"""Hosts on one machine: network namespaces with addresses and folders of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAME = "liquidgen"
PORT = 6379

# what a host sees of the machine's folders, the installed packages excepted, is empty
WORKER = """
set -e
mount --make-rprivate /
for folder in /tmp /dev/shm "$1"; do mkdir -p "$folder"; mount -t tmpfs none "$folder"; done
mkdir -p "$HOME"
exec ray start --address "$2" --node-ip-address "$3" --num-cpus 1 --disable-usage-stats
"""


class NetworkHosts:
    """Hosts joined by a switch; host 0 is the head of a cluster of Ray."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def address(self) -> str:
        """Address of the cluster, host:port."""
        return f"{_ip(0)}:{PORT}"

    def on_head(self, *command: str) -> tuple[str, ...]:
        """Return the command that runs another one on the head."""
        return (*_on(0), *command)

    def cut_off(self, host: int) -> None:
        """Unplug a host from the network."""
        _run("ip", "link", "set", _port(host), "down")

    def start(self, environment: dict[str, str], hidden: Path) -> None:
        """Create the network, and start Ray on all hosts; of `hidden` only the head sees files."""
        _run("ip", "link", "add", f"{NAME}0", "type", "bridge")
        _run("ip", "link", "set", f"{NAME}0", "up")
        for host in range(self._count):
            _run("ip", "netns", "add", _name(host))
            link = ("ip", "link", "add", _port(host), "type", "veth", "peer", "name", "eth0")
            _run(*link, "netns", _name(host))
            _run("ip", "link", "set", _port(host), "master", f"{NAME}0", "up")
            inside = ("ip", "-n", _name(host))
            _run(*inside, "addr", "add", f"{_ip(host)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run(*inside, "link", "set", device, "up")
        options = ["--port", str(PORT), "--node-ip-address", _ip(0), "--num-cpus", "1"]
        options += ["--include-dashboard", "false", "--disable-usage-stats"]
        _run(*_on(0), "ray", "start", "--head", *options, env=environment)
        for host in range(1, self._count):
            worker = ("unshare", "--mount", "sh", "-c", WORKER, "sh")
            _run(*_on(host), *worker, str(hidden), self.address, _ip(host), env=environment)

    def stop(self) -> None:
        """Kill what runs on the hosts, and remove the network; what is not there is left out."""
        for host in range(self._count):
            found = _run("ip", "netns", "pids", _name(host), check=False)
            _run("kill", "-9", *found.split(), check=False)
            _run("ip", "link", "del", _port(host), check=False)  # it would outlive its namespace
            _run("ip", "netns", "del", _name(host), check=False)
        _run("ip", "link", "del", f"{NAME}0", check=False)


@contextmanager
def network_hosts(count: int, home: Path, hidden: Path) -> Iterator[NetworkHosts]:
    """Start hosts, and stop them at the end; without the right to, the test fails."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.fail("needs root, and the command ip (Debian's package iproute2)")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # by default Ray lowers the priority of workers: other work of this machine would starve them
    environment = {"PATH": path, "HOME": str(home), "RAY_worker_niceness": "0"}
    hosts = NetworkHosts(count)
    hosts.stop()  # of a run that was killed
    try:
        hosts.start(environment, hidden)
        yield hosts
    finally:
        hosts.stop()


def _name(host: int) -> str:
    return f"{NAME}-host{host}"


def _port(host: int) -> str:
    return f"{NAME}p{host}"


def _ip(host: int) -> str:
    return f"10.77.0.{host + 1}"


def _on(host: int) -> tuple[str, ...]:
    return ("ip", "netns", "exec", _name(host))


def _run(*command: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
