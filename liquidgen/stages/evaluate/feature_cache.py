"""Features that earlier evaluations have extracted; those of samples are never among them."""

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from liquidgen.compute.distributed import World
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.stages.evaluate.feature_extraction import FeatureExtractor, LabeledFeatures
from liquidgen.utils.files import atomic, canonical_json, sha256

LIMIT = 2 * 2**30  # bytes of all files; those that were not used for longest are deleted
EVALUATE = "liquidgen.stages.evaluate.evaluate"  # it and all that it imports count
FOLDER = Path("work/cache/features")  # in the checkout
# that decode, or compute features
LIBRARIES = ("diffusers", "numpy", "pillow", "torch", "transformers")


class FeatureCache:
    """Files of features, named by the digest of all that they depend on.

    A file that is damaged, or cannot be read or written, costs time only.

    Args:
        folder: Folder of the files; None: nothing is kept.
        extractor: What the features come from.
        network: Name of the module of its feature network.
        inputs: What they depend on beside the extractor, such as digests of the images.
        world: Processes that extract features together.
    """

    def __init__(
        self,
        folder: Path | None,
        extractor: FeatureExtractor,
        *,
        network: str,
        inputs: dict[str, Any],
        world: World,
    ) -> None:
        self._folder = folder
        self._world = world
        self._nothing = extractor.nothing()
        self._made_from = inputs | {
            "code": fingerprint(EVALUATE, f"liquidgen.features.{network}"),
            "libraries": library_versions(),
            "device": torch.device(extractor.device).type,
            "network": extractor.network.digest,
            "autoencoder": extractor.contract.autoencoder_digest,
        }

    def get(
        self,
        name: str,
        count: int,
        extract: Callable[[], LabeledFeatures],
        *,
        together: bool = True,
    ) -> LabeledFeatures:
        """Return features from their file, or extract them and write it.

        Args:
            name: Name of the set of images.
            count: Number of images.
            extract: Extracts their features.
            together: Whether all processes call this; otherwise only the main process does.
        """
        if self._folder is None:
            return extract()
        key = sha256(canonical_json(self._made_from | {"set": name, "count": count}))
        path = self._folder / f"{key}.safetensors"
        known = _read(path) if self._world.is_main else None
        found = known is not None
        if self._world.any(found) if together else found:
            return known or self._nothing  # only the main process needs them
        features = extract()
        if self._world.is_main:
            _write(path, features)
        return features


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decode, or compute features."""
    return {name: _version(name) for name in LIBRARIES}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # transformers is an extra
        return ""


def _read(path: Path) -> LabeledFeatures | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            features = LabeledFeatures(*map(file.get_tensor, LabeledFeatures._fields))
            if (file.metadata() or {}).get("sha256") != _digest(features):
                return None
        os.utime(path)  # it was used
    except (OSError, SafetensorError):
        return None
    return features


def _write(path: Path, features: LabeledFeatures) -> None:
    from safetensors.torch import save

    data = save({**features._asdict()}, metadata={"sha256": _digest(features)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(".*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        with atomic(path) as file:
            file.write(data)
        _delete_oldest(path.parent, keep=path)
    except OSError:  # a full disk, a folder of another user: the next evaluation extracts again
        return


def _digest(features: LabeledFeatures) -> str:
    return sha256(b"".join(column.contiguous().numpy().tobytes() for column in features))


def _delete_oldest(folder: Path, keep: Path) -> None:
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in files) - LIMIT
    for path in files:
        if excess > 0 and path != keep:
            excess -= path.stat().st_size
            path.unlink(missing_ok=True)
