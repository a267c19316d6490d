"""Latents whose digests are right and whose content is not: one line that names the file."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_latents import write

from liquidgen.latents.manifest import MANIFEST, Manifest
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import StoredFile, canonical_json, sha256

pytestmark = pytest.mark.fault("forged latents with good digests")

CLASSES = list("abcdefghijkl")
HUGE = "9" * 400


def opened(folder: Path) -> LatentDataset:
    verify(folder)
    return LatentDataset(folder, "train")


def refusal(folder: Path, rule: str) -> str:
    with pytest.raises(UserError, match=rule) as refused:
        opened(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def sign(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest with the digest that its content has."""
    unsigned = copy.deepcopy(
        {key: value for key, value in content.items() if key not in ("digest", "license")}
    )
    with suppress(AttributeError, TypeError):  # content of a wrong shape has no digest anyway
        for split in unsigned["splits"].values():
            split.pop("per_class", None)
    content["digest"] = sha256(canonical_json(unsigned))
    (folder / MANIFEST).write_bytes(canonical_json(content))


def forged(folder: Path, changes: dict[str, Any]) -> None:
    """Change keys of a manifest, by paths such as `splits.train.count`, and sign it."""
    content = json.loads((folder / MANIFEST).read_bytes())
    for key, value in changes.items():
        *parents, last = key.split(".")
        section: Any = content
        for parent in parents:
            section = section[int(parent) if parent.isdigit() else parent]
        section[last] = value
    sign(folder, content)


MANIFESTS: dict[str, tuple[dict[str, Any], str]] = {
    "other classes": ({"splits.train.per_class": {"a": 50}}, "other classes than the whole"),
    "too many per class": (
        {"splits.train.per_class": dict.fromkeys(CLASSES, 9)},
        "50 encoded images, but 108 in the classes",
    ),
    "elsewhere": ({"splits.train.shards.0.name": "../elsewhere.tar"}, "must be the plain name"),
    "absolute": ({"splits.train.shards.0.name": "/etc/passwd"}, "must be the plain name"),
    "no name": ({"splits.train.shards.0.name": ""}, "must be the plain name"),
    "pipe": ({"splits.train.shards.0.name": "pipe:touch x"}, "must be the plain name"),
    "control": ({"splits.train.shards.0.name": "a\x1b[2J.tar"}, "must be the plain name"),
    "no count": ({"splits.train.shards.0.count": 0}, "one without samples"),
    "negative count": ({"splits.train.shards.0.count": -1}, "greater than or equal to 0"),
    "more in a shard": ({"splits.train.shards.0.count": 31}, "50 samples, but 51 in its shards"),
    "more in all": ({"splits.train.count": 51}, "51 samples, but 50 in its shards"),
    "more encoded": (
        {
            "splits.train.encoded": 20,
            "splits.train.images": 20,
            "splits.train.per_class": None,
        },
        "split train: 50 samples of 20 encoded images",
    ),
    "more images": ({"splits.train.images": 60}, "60 images, but 50 encoded or skipped"),
    "negative skipped": ({"splits.train.skipped": {"a": -5}}, "greater than or equal to 0"),
    "no shards": ({"splits.train.shards": []}, "has no shards"),
    "odd digest": ({"splits.train.shards.0.sha256": "x"}, "should match pattern"),
    "no classes": ({"classes": []}, "must hold at least one name"),
    "class null": ({"classes": [*CLASSES[:11], None]}, "should be a valid string"),
    "class number": ({"classes": [*CLASSES[:11], 7]}, "should be a valid string"),
    "class doubled": ({"classes": [*CLASSES[:11], "a"]}, "'a' is there more than once"),
    "fewer classes": ({"classes": CLASSES[:3]}, "but labels are 0 to 2"),
    "unlabeled": ({"classes": None}, "but labels are 0 to 0"),
    "short std": ({"contract.std": [1.0]}, "std has 1 values for 4 channels"),
    "long mean": ({"contract.mean": [0.0] * 5}, "mean has 5 values for 4 channels"),
    "zero std": ({"contract.std": [0.0] * 4}, "greater than 0"),
    "negative size": ({"contract.image_size": -64}, "from 1 to 16384 px"),
    "odd size": ({"contract.image_size": 63}, "no multiple of 8"),
    "other size": ({"contract.image_size": 56}, "sample 0 is not as the format says"),
    "large size": ({"contract.image_size": 256}, "too short for 30 samples"),
    "huge size": ({"contract.image_size": 8 * 10**30}, "from 1 to 16384 px"),
    "split renamed": ({"splits": {"a": {}}}, "splits.a"),
    "version": ({"version": 9}, "version"),
    "text": ({"splits.train.count": "many"}, "valid integer"),
    "key": ({"splits.train.\x1b[2J": 1}, r"\\x1b\[2J: Extra inputs"),
}


@pytest.mark.parametrize("forgery", MANIFESTS)
def test_forged_manifest_is_one_line(tmp_path: Path, forgery: str):
    changes, rule = MANIFESTS[forgery]
    write(tmp_path)
    forged(tmp_path, changes)
    assert "liquidgen repair" in refusal(tmp_path, rule)


def rewrite(folder: Path, change: Callable[[bytearray], None]) -> None:
    """Change the bytes of a shard, and sign shard and manifest."""
    path = folder / "train-00000.tar"
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    entry = StoredFile.of(path, 30).model_dump()
    content = json.loads((folder / MANIFEST).read_bytes())
    content["splits"]["train"]["shards"][0] = entry
    sign(folder, content)


def put(place: int, value: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[place : place + len(value)] = value

    return change


RECORD = 512 + 512 + 512 + 1024  # headers and contents, each padded, of a sample
SHARDS = {
    "label 99": (put(RECORD + 512, b"99\0"), r"sample 1 has label b'99', but labels are 0 to 11"),
    "label -1": (put(512, b"-1\0"), "sample 0 has label b'-1'"),
    "label text": (put(2 * RECORD + 512, b"cat\0"), "sample 2 has label b'cat'"),
    "label of bytes": (put(512, b"5\0..\xff"), "sample 0 has label"),
    "no label": (put(512, bytes(20)), "sample 0 has label b''"),
    "endless label": (put(512, b"9" * 20), "sample 0 has label b'9999"),
    "name": (put(5 * RECORD, b"../../evil.pkl\0\0"), "sample 5 is not as the format says"),
    "doubled name": (put(5 * RECORD, b"00000004.cls"), "sample 5 is not as the format says"),
    "objects": (put(3 * RECORD + 1536, b"\x93NUMPY\x01\0v\0{'descr': '|O'"), "sample 3 is not as"),
    "size": (put(4 * RECORD + 1024 + 124, b"77777777777"), "sample 4 is not as the format says"),
}


@pytest.mark.parametrize("forgery", SHARDS)
def test_forged_shard_is_one_line(tmp_path: Path, forgery: str):
    change, rule = SHARDS[forgery]
    write(tmp_path)
    rewrite(tmp_path, change)
    refusal(tmp_path, rf"train-00000\.tar: {rule}")


def test_signed_manifest_of_right_content_is_accepted(tmp_path: Path):
    """The helpers above forge nothing else."""
    latents, labels = write(tmp_path)
    rewrite(tmp_path, put(0, b""))
    forged(tmp_path, {"license": "CC0"})
    assert np.array_equal(opened(tmp_path).labels, labels)
    assert len(latents) == 50


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_of_a_signed_manifest_never_crash(tmp_path: Path, seed: int):
    write(tmp_path)
    original = (tmp_path / MANIFEST).read_bytes()
    random = np.random.default_rng(seed)
    values = [None, -1, 0, 10**30, "", "x", "\x00", [], {}, True, 1.5, [[]], HUGE, "../x"]
    for _ in range(100):
        content = json.loads(original)
        section: Any = content
        while isinstance(section, dict | list) and section:
            keys = list(section) if isinstance(section, dict) else range(len(section))
            key = keys[random.integers(len(keys))]
            if not isinstance(section[key], dict | list) or random.random() < 0.2:
                section[key] = values[random.integers(len(values))]
                break
            section = section[key]
        sign(tmp_path, content)
        with suppress(UserError):  # some edits change nothing that matters
            opened(tmp_path)
    assert Manifest.model_validate_json(original)
