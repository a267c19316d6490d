"""Uploads to the stand-in hub: new repositories, and commits of files."""

import base64
import json
import re
import tempfile
from http import HTTPStatus
from pathlib import Path

CREATE = re.compile(r"/api/repos/create")
CHECK_CARD = re.compile(r"/api/validate-yaml")
PREUPLOAD = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/preupload/([^/]+)")
COMMIT = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/commit/([^/]+)")


class Uploads:
    """Mixin of the handler for uploads; files are part of the commit, none goes through LFS."""

    def upload(self, path: str) -> bool:
        """Answer a request if it is an upload, and return whether it is."""
        if self.command != "POST":
            return False
        for pattern, answer in (
            (CREATE, self._create),
            (CHECK_CARD, self._check_card),
            (PREUPLOAD, self._announce),
            (COMMIT, self._commit),
        ):
            if found := pattern.fullmatch(path):
                answer(*found.groups())
                return True
        return False

    def _create(self) -> None:
        wanted = json.loads(self.body)
        id = f"{wanted['organization']}/{wanted['name']}"
        type = f"{wanted.get('type') or 'model'}s"
        if self._token() is None:
            self._send_json({"error": "log in"}, HTTPStatus.UNAUTHORIZED)
            return
        status = HTTPStatus.CONFLICT
        if (type, id) not in self.hub.repositories:
            status = HTTPStatus.OK
            self.hub.add(type, id, Path(tempfile.mkdtemp()), "main", {})
        self._send_json({"url": f"{self.hub.url}/{id}", "id": id}, status)

    def _check_card(self) -> None:
        self._send_json({"errors": [], "warnings": []})

    def _announce(self, type: str, id: str, revision: str) -> None:
        files = json.loads(self.body)["files"]
        modes = [{"path": file["path"], "uploadMode": "regular"} for file in files]
        self._send_json({"files": [{**mode, "shouldIgnore": False} for mode in modes]})

    def _commit(self, type: str, id: str, revision: str) -> None:
        repository = self._repository(type, id)
        folder = self._revision(repository, revision).folder
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                path = folder / entry["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(entry["value"]["content"]))
        commit = repository.add(revision, folder).revisions[revision].commit
        url = f"{self.hub.url}/{id}/commit/{commit}"
        self._send_json({"success": True, "commitOid": commit, "commitUrl": url})
