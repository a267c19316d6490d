"""Cache of the data that earlier calls of `liquidgen.train` made.

In a checkout DVC decides what runs again. Calls from Python record what they made from which
settings and code, as one small JSON file per folder of data.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liquidgen.config.params import Params
from liquidgen.images.raw_info import read_info
from liquidgen.latents.shards import verify
from liquidgen.latents.weights import weights_digest
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, sha256, write_json


@dataclass(frozen=True)
class CacheEntry:
    """Record of what a folder of data was made from.

    Attributes:
        path: The JSON file of the record.
        module: Full name of the module that makes the data; it and all that it imports count.
        inputs: Everything else that the data depend on.
        digest_of_data: Verifies the data and returns their digest; raises UserError for damage.
    """

    path: Path
    module: str
    inputs: dict[str, Any]
    digest_of_data: Callable[[], str]

    def is_valid(self) -> bool:
        """Return whether the data exist, are undamaged, and were made from these inputs."""
        try:
            return json.loads(self.path.read_bytes()) == self._content()
        except (FileNotFoundError, ValueError, UserError):  # no record, or damaged record or data
            return False

    def write(self) -> None:
        """Record the data as they are now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._content())

    def _content(self) -> dict[str, str]:
        made_from = canonical_json({"inputs": self.inputs, "code": fingerprint(self.module)})
        return {"made_from": sha256(made_from), "data": self.digest_of_data()}


def raw_entry(params: Params, root: Path) -> CacheEntry:
    """Return the cache entry of the raw images."""
    from liquidgen.images.raw import RawDataset  # imports pyarrow

    def digest() -> str:
        raw = RawDataset(params.raw_folder)
        raw.verify()
        return raw.info.digest

    inputs = {name: getattr(params, name).model_dump() for name in ("dataset", "download")}
    path = _path(root, params.raw_folder)
    return CacheEntry(path, "liquidgen.stages.download.stage", inputs, digest)


def latents_entry(params: Params, root: Path) -> CacheEntry:
    """Return the cache entry of the latents; the raw images must exist."""
    raw = read_info(params.raw_folder)
    inputs = {name: getattr(params, name).model_dump() for name in ("autoencoder", "encode")}
    inputs |= {"image_size": params.selectors.image_size}
    inputs |= {"raw": raw.digest, "license": raw.license}
    inputs |= {"weights": weights_digest(params.autoencoder)}
    path = _path(root, params.latents_folder)
    return CacheEntry(
        path,
        "liquidgen.stages.encode.stage",
        inputs,
        lambda: verify(params.latents_folder).digest,
    )


def _path(root: Path, folder: Path) -> Path:
    return root / "work/cache" / f"{folder.parent.name}-{folder.name}.json"
