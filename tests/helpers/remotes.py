"""Real stores on this machine for DVC's remotes: an S3 endpoint, and a server for SSH."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from helpers.checkout import Checkout
from helpers.servers import unused_port

NAME = "team"
KEY, SECRET = "AKIATEAM", "s3cr3t-of-the-team"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
START = 20  # seconds for a server to answer


@dataclass
class Remote:
    """A store that a checkout can use as DVC's remote.

    Attributes:
        url: Address of the store.
        settings: Other settings that all share.
        credentials: Settings of one person.
    """

    url: str
    settings: dict[str, str]
    credentials: dict[str, str]

    def add_to(self, checkout: Checkout) -> None:
        """Add the remote to a checkout, its address for all, its credentials for this one."""
        checkout.run("dvc", "remote", "add", "--default", NAME, self.url, check=True)
        for key, value in self.settings.items():
            checkout.run("dvc", "remote", "modify", NAME, key, value, check=True)
        self.authorize(checkout)

    def authorize(self, checkout: Checkout) -> None:
        """Give a checkout the credentials."""
        for key, value in self.credentials.items():
            checkout.run("dvc", "remote", "modify", "--local", NAME, key, value, check=True)


class S3(Remote):
    """A bucket of moto's server."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        # of its own: moto keeps all buckets of a process, and DVC an index of what a URL has
        self._bucket = f"team-{uuid4().hex}"
        super().__init__(
            f"s3://{self._bucket}/cache",
            {"endpointurl": endpoint, "region": "us-east-1"},
            {"access_key_id": KEY, "secret_access_key": SECRET},
        )
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        self._client.create_bucket(Bucket=self._bucket)

    def objects(self) -> list[str]:
        """Return the names of the stored files, without the run cache."""
        pages = self._client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self._bucket, Prefix="cache/files/")
        return [
            one["Key"].removeprefix("cache/") for page in found for one in page.get("Contents", [])
        ]

    def delete(self, name: str) -> None:
        """Delete a stored file."""
        self._client.delete_object(Bucket=self._bucket, Key=f"cache/{name}")

    def put(self, name: str, path: Path) -> None:
        """Store a file."""
        self._client.upload_file(str(path), self._bucket, f"cache/{name}")


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start an S3 endpoint on a free port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield S3("http://{}:{}".format(*server.get_host_and_port()))
    finally:
        server.stop()


@contextmanager
def ssh_server(folder: Path) -> Iterator[Remote]:
    """Start a server for SSH on a free port, which takes one key."""
    key = folder / "id"
    for path in (key, folder / "host"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
    port = unused_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {key}.pub\nStrictModes no\nPasswordAuthentication no\n"
        f"PidFile none\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd drops its privileges
    assert SSHD
    command = [SSHD, "-D", "-e", "-f", str(folder / "config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        try:
            _wait_for(port, server)
            address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder / 'store'}"
            yield Remote(address, {}, {"keyfile": str(key)})
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        assert server.poll() is None, server.stderr.read().decode() if server.stderr else ""
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("sshd does not answer")
