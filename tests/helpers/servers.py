"""What a server on this machine answers, where it listens, and where none does."""

import socket
import urllib.error
import urllib.request
from pathlib import Path


def status(address: str, data: bytes | None = None, **headers: str) -> int:
    """Status of the answer to a request, which posts the data if there are some."""
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def unused_port() -> int:
    """Return a port of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def listening(port: int) -> set[str]:
    """Local addresses at which something listens on a port, from Linux's table."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address = line.split()[1]
        state = line.split()[3]
        host, listened = address.split(":")
        if int(listened, 16) == port and state == "0A":
            found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]))
    return found
