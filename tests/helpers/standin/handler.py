"""Answers to the requests of the hub's clients."""

import json
import re
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.standin.repositories import Repository, Revision
from helpers.standin.uploads import Uploads

API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(.*))?"
)
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
CDN = re.compile(r"/cdn/([0-9a-f]{64})")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
PIECE = 2**16


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message


class Handler(Uploads, BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *message: object) -> None:
        """Print nothing: the hub remembers requests itself."""

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        self.hub = self.server.hub
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        split = urlsplit(self.path)
        path = unquote(split.path)
        self.query = parse_qs(split.query)
        self.fault = self.hub.fault_of(self.command, path)
        self.seen = self.hub.remember(self.command, path, self.headers.get("Range"), self._token())
        try:
            self._answer(split.path)
        except Refusal as refusal:
            self._refuse(refusal)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away

    def _answer(self, path: str) -> None:
        if self.fault and self.fault.stall:
            self.hub.closing.wait(120)
            self.close_connection = True
            return
        if self.fault and self.fault.status:
            raise Refusal(self.fault.status, self.fault.code, self.fault.message)
        if self.upload(path):
            return
        if found := API.fullmatch(path):
            self._api(*found.groups())
        elif found := RESOLVE.fullmatch(path):
            self._resolve(*found.groups())
        elif (found := CDN.fullmatch(path)) and (data := self.hub.blob(found[1])) is not None:
            self._send_file(data, {"ETag": f'"{found[1]}"'})
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, None, f"no such page: {path}")

    def _api(self, type: str, id: str, what: str | None, revision: str | None, rest: str) -> None:
        repository = self._repository(type, id)
        found = self._revision(repository, unquote(revision or "main"))
        if what == "tree":
            recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
            self._tree(found, unquote(rest or "").strip("/"), recursive)
        elif what == "paths-info":
            names = parse_qs(self.body.decode()).get("paths", [])
            self._send_json([entry for name in names if (entry := found.entry(name))])
        else:
            self._send_json(repository.info(found))

    def _tree(self, revision: Revision, folder: str, recursive: bool) -> None:
        entries = revision.tree(folder, recursive)
        if folder and not entries:
            raise Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound", f"no folder {folder}")
        self._send_json(entries)

    def _resolve(self, dataset: str | None, id: str, revision: str, name: str) -> None:
        repository = self._repository("datasets" if dataset else "models", id)
        found = self._revision(repository, unquote(revision))
        self._check_reader(repository)
        blob = found.files.get(unquote(name))
        headers = {"X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
        if blob is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound", f"no file {unquote(name)}")
        headers["ETag"] = f'"{blob.etag}"'
        if not blob.large:
            self._send_file(blob.data, headers)
            return
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
        headers["Location"] = f"{self.hub.cdn}/{blob.sha256}"
        self._send(HTTPStatus.FOUND, b"", headers)

    def _repository(self, type: str, id: str) -> Repository:
        id = unquote(id)
        if id in self.hub.moved:
            raise Refusal(
                HTTPStatus.TEMPORARY_REDIRECT, None, self.path.replace(id, self.hub.moved[id], 1)
            )
        if (type, id) not in self.hub.repositories:
            # without a token, missing and private repositories have the same answer
            status = HTTPStatus.NOT_FOUND if self._token() else HTTPStatus.UNAUTHORIZED
            raise Refusal(status, "RepoNotFound", "Invalid username or password.")
        return self.hub.repositories[type, id]

    def _revision(self, repository: Repository, name: str) -> Revision:
        if (found := repository.find(name)) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {name}")
        return found

    def _check_reader(self, repository: Repository) -> None:
        if repository.readers is None or self._token() in repository.readers:
            return
        status = HTTPStatus.FORBIDDEN if self._token() else HTTPStatus.UNAUTHORIZED
        raise Refusal(status, "GatedRepo", f"Access to {repository.id} is restricted.")

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _refuse(self, refusal: Refusal) -> None:
        headers = dict(self.fault.headers) if self.fault else {}
        if refusal.status == HTTPStatus.TEMPORARY_REDIRECT:
            self._send(refusal.status, b"", headers | {"Location": refusal.message})
            return
        headers |= {"X-Error-Message": refusal.message}
        headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
        self._send_json({"error": refusal.message}, refusal.status, headers)

    def _send_json(self, value: object, status: int = 200, headers: dict | None = None) -> None:
        content = {"Content-Type": "application/json", **(headers or {})}
        self._send(status, json.dumps(value).encode(), content)

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the range of it that was asked for."""
        wanted = RANGE.fullmatch(self.headers.get("Range") or "")
        if not wanted:
            self._send(HTTPStatus.OK, data, headers)
            return
        start = int(wanted[1])
        end = int(wanted[2] or len(data) - 1)
        if start >= len(data):
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            self._send(status, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            return
        part = data[start : end + 1]
        place = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, part, headers | {"Content-Range": place})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        data = b"" if self.fault and self.fault.empty else data
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self._write(data)

    def _write(self, data: bytes) -> None:
        fault = self.fault
        good = len(data)
        if fault and fault.damaged:
            data = data[: fault.after] + bytes([data[fault.after] ^ 1]) + data[fault.after + 1 :]
        if fault and (fault.cut or fault.silent):
            good = min(good, fault.after)
        piece = fault.piece if fault and fault.drip else PIECE
        for start in range(0, good, piece):
            sent = self.wfile.write(data[start : min(start + piece, good)])
            self.seen.bytes += sent
            if fault and fault.drip:
                self.wfile.flush()
                time.sleep(fault.drip)
        if fault and fault.silent:
            self.hub.closing.wait(120)
        if fault and (fault.cut or fault.silent):
            self.close_connection = True
