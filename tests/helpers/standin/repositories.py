"""Repositories of the stand-in hub: folders with a commit, as the hub lists them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LARGE = (".parquet", ".safetensors", ".bin", ".zip")  # kept as LFS files
COMMIT = re.compile("[0-9a-f]{40}")
POINTER_SIZE = 130


@dataclass(frozen=True)
class StoredBlob:
    """A file of a revision."""

    path: str
    file: Path

    @cached_property
    def data(self) -> bytes:
        return self.file.read_bytes()

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    @property
    def large(self) -> bool:
        return self.path.endswith(LARGE)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def git_id(self) -> str:
        """Digest of the file in git; that of an LFS file is the digest of its pointer."""
        data = self.sha256.encode() if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_id

    def lfs(self, digest_key: str) -> dict:
        if not self.large:
            return {}
        content = {digest_key: self.sha256, "size": self.size, "pointerSize": POINTER_SIZE}
        return {"lfs": content}


@dataclass(frozen=True)
class Revision:
    """The files of a folder under a commit: a given one, or a digest of the content."""

    folder: Path
    given: str | None = None

    @cached_property
    def files(self) -> dict[str, StoredBlob]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = (path.relative_to(self.folder).as_posix() for path in found)
        return {name: StoredBlob(name, self.folder / name) for name in names}

    @cached_property
    def commit(self) -> str:
        if self.given:
            return self.given
        content = "".join(f"{name} {blob.etag}\n" for name, blob in self.files.items())
        return hashlib.sha1(content.encode()).hexdigest()

    def siblings(self) -> list[dict]:
        """Return all files in the form of `repo_info`."""
        return [
            {"rfilename": name, "size": blob.size, "blobId": blob.git_id, **blob.lfs("sha256")}
            for name, blob in self.files.items()
        ]

    def tree(self, folder: str, recursive: bool) -> list[dict]:
        """List files and folders below a folder, or directly in it without `recursive`."""
        prefix = f"{folder}/" if folder else ""
        inside = [name for name in self.files if name.startswith(prefix)]
        folders = {above for name in inside for above in _above(name) if above.startswith(prefix)}
        entries = sorted(folders) + inside
        if not recursive:
            entries = [entry for entry in entries if "/" not in entry.removeprefix(prefix)]
        return [self.entry(name) for name in entries]

    def entry(self, name: str) -> dict | None:
        """Return a file or folder in the form of a tree; None: there is none of that name."""
        if name in self.files:
            blob = self.files[name]
            content = {"type": "file", "oid": blob.git_id, "size": blob.size, "path": name}
            return content | blob.lfs("oid")
        if any(file.startswith(f"{name}/") for file in self.files):
            oid = hashlib.sha1(name.encode()).hexdigest()
            return {"type": "directory", "oid": oid, "size": 0, "path": name}
        return None


@dataclass
class Repository:
    """A dataset or model with its named revisions.

    Attributes:
        type: datasets or models.
        id: Its name, `owner/name`.
        license: License in its card.
        readers: Tokens that may read its files; None: everyone may.
        revisions: Its revisions by name.
    """

    type: str
    id: str
    license: str | None = None
    readers: set[str] | None = None
    revisions: dict[str, Revision] = field(default_factory=dict)

    def add(self, revision: str, folder: Path) -> "Repository":
        """Add the present files of a folder as a revision."""
        given = revision if COMMIT.fullmatch(revision) else None
        self.revisions[revision] = Revision(folder, given)
        return self

    def find(self, revision: str) -> Revision | None:
        """Find a revision by its name or its commit."""
        commits = {known.commit: known for known in self.revisions.values()}
        return self.revisions.get(revision) or commits.get(revision)

    def info(self, revision: Revision) -> dict:
        """Return the hub's description of the repository at a revision."""
        return {
            "id": self.id,
            "sha": revision.commit,
            "private": False,
            "gated": False if self.readers is None else "auto",
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2024-01-01T00:00:00.000Z",
            "createdAt": "2023-01-01T00:00:00.000Z",
            "cardData": {"license": self.license} if self.license else None,
            "siblings": revision.siblings(),
        }


def _above(name: str) -> Iterator[str]:
    """Yield the folders that contain a file."""
    parts = name.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        yield "/".join(parts[:end])
