"""Latents on disk: exact, deterministic, readable by WebDataset; damage is named."""

import io
import json
import os
import time

import numpy as np
import pytest
import torch
import webdataset
from helpers.small_latents import SHAPE, contract, samples, write
from webdataset.tariterators import group_by_keys, tar_file_expander

from liquidgen.config.params import load_params
from liquidgen.images.transform import ImageTransform
from liquidgen.latents import known_shards
from liquidgen.latents.contract import LatentContract
from liquidgen.latents.manifest import MANIFEST
from liquidgen.latents.shards import (
    LatentDataset,
    epoch_order,
    samples_per_shard,
    verify,
    write_shard,
)
from liquidgen.utils.errors import UserError


@pytest.mark.parametrize("shape", [SHAPE, (16, 2, 2), (3, 8, 8), (1, 1, 1), (32, 16, 16)])
def test_batch_reads_samples_in_any_order(tmp_path, shape):
    latents, labels = write(tmp_path, shape=shape)
    dataset = LatentDataset(tmp_path, "train")
    order = epoch_order(50, seed=1, epoch=0)
    found, classes = dataset.batch(order)
    assert found.dtype == torch.float32
    assert classes.dtype == torch.int64
    assert np.array_equal(found.numpy(), latents[order].astype(np.float32))
    assert classes.tolist() == labels[order].tolist() == dataset.labels[order].tolist()
    assert (len(dataset), dataset.num_classes) == (50, 12)


def test_webdataset_reads_same_samples(tmp_path):
    latents, labels = write(tmp_path)
    found = []
    for name in ("train-00000.tar", "train-00001.tar"):
        with open(tmp_path / name, "rb") as stream:  # its own opener leaves files open
            files = tar_file_expander([{"url": name, "stream": stream}])
            found += list(group_by_keys(files))
    arrays = [np.load(io.BytesIO(sample["npy"]), allow_pickle=False) for sample in found]
    assert np.array_equal(np.stack(arrays), latents)
    assert [int(sample["cls"]) for sample in found] == labels.tolist()


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 8)])
def test_shard_equals_webdataset_output(tmp_path, shape):
    latents, labels = samples(30, shape)
    write_shard(tmp_path / "ours.tar", latents, labels)
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), mtime=0, encoder=False) as tar:
        for i, (sample, label) in enumerate(zip(latents, labels, strict=True)):
            npy = io.BytesIO()
            np.save(npy, sample)
            tar.write({"__key__": f"{i:08d}", "npy": npy.getvalue(), "cls": b"%d" % label})
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_equal_samples_give_equal_bytes(tmp_path):
    write(tmp_path / "one")
    time.sleep(1.1)  # tar keeps times in seconds
    write(tmp_path / "two")
    for name in ("train-00000.tar", "train-00001.tar", MANIFEST):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_samples_per_shard_follows_size():
    count = samples_per_shard((16, 32, 32), shard_mb=1)
    assert 25 <= count <= 30
    assert samples_per_shard((16, 512, 512), shard_mb=1) == 1


def test_verify_accepts_intact_shards(tmp_path):
    write(tmp_path)
    assert verify(tmp_path).splits["train"].count == 50


@pytest.mark.parametrize("place", [0, 600, 5_000, 60_000, -1])
def test_flipped_bit_is_found_by_verify(tmp_path, place):
    write(tmp_path)
    path = tmp_path / "train-00001.tar"
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00001\.tar: damaged"):
        verify(tmp_path)


@pytest.mark.parametrize("left", [0, 511, 512, 20_480])
def test_truncated_shard_is_named(tmp_path, left):
    write(tmp_path)
    path = tmp_path / "train-00000.tar"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match=rf"train-00000\.tar: has {left} bytes instead of"):
        verify(tmp_path)
    with pytest.raises(UserError, match=r"train-00000\.tar"):
        LatentDataset(tmp_path, "train")


def test_missing_shard_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "train-00001.tar").unlink()
    with pytest.raises(UserError, match=r"train-00001\.tar: missing; run"):
        verify(tmp_path)


def test_extra_shard_is_named(tmp_path):
    write(tmp_path)
    write_shard(tmp_path / "train-00002.tar", *samples(3))
    with pytest.raises(UserError, match=r"train-00002\.tar: not in the manifest"):
        verify(tmp_path)


def test_altered_manifest_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / MANIFEST
    content = json.loads(path.read_text())
    content["contract"]["mean"][0] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not match its digest"):
        verify(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"version": 2}'])
def test_manifest_of_other_format_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: .*; run"):
        verify(tmp_path)


def test_missing_manifest_error_names_stage(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: missing; run `dvc repro`"):
        LatentDataset(tmp_path, "train")


def test_unknown_split_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match="no split 'test'; there are: 'train'"):
        LatentDataset(tmp_path, "test")


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Every dataset counts as large, and what is remembered is in a folder of the test."""
    monkeypatch.setattr(known_shards, "LARGE", 0)
    monkeypatch.setattr(known_shards, "FOLDER", tmp_path / "known")
    folder = tmp_path / "latents"
    folder.mkdir()
    return folder


def replace_bytes(path, keep_time):
    """Flip a bit in the middle of a file, with the time that it had or a new one."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 1)))


def test_large_dataset_is_read_once(large):
    latents, labels = write(large)
    verify(large)
    replace_bytes(large / "train-00000.tar", keep_time=True)  # not looked for: it shows the reading
    verify(large)
    dataset = LatentDataset(large, "train")
    assert dataset.labels.tolist() == labels.tolist()
    replace_bytes(large / "train-00000.tar", keep_time=True)
    assert np.array_equal(dataset.batch(range(50))[0].numpy(), latents.astype(np.float32))


def test_changed_shard_of_a_large_dataset_is_read_again(large):
    write(large)
    verify(large)
    replace_bytes(large / "train-00001.tar", keep_time=False)
    with pytest.raises(UserError, match=r"train-00001\.tar: damaged"):
        verify(large)
    (large / "train-00001.tar").unlink()
    with pytest.raises(UserError, match=r"train-00001\.tar: missing"):
        LatentDataset(large, "train")


@pytest.mark.parametrize("content", [b"", b"not npy", b"\x93NUMPY\x01\x00"])
def test_damaged_memory_costs_a_reading_only(large, content):
    _, labels = write(large)
    verify(large)
    for path in known_shards.FOLDER.iterdir():
        path.write_bytes(content)
    replace_bytes(large / "train-00000.tar", keep_time=True)
    with pytest.raises(UserError, match=r"train-00000\.tar: damaged"):
        verify(large)
    replace_bytes(large / "train-00000.tar", keep_time=True)
    verify(large)
    assert LatentDataset(large, "train").labels.tolist() == labels.tolist()


def test_large_dataset_works_without_a_place_to_remember(large):
    write(large)
    known_shards.FOLDER.write_bytes(b"a file where the folder would be")
    verify(large)
    assert len(LatentDataset(large, "train")) == 50


def test_epoch_orders_are_distinct_permutations():
    orders = [epoch_order(1000, seed=3, epoch=epoch) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(1000)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3
    assert np.array_equal(orders[1], epoch_order(1000, seed=3, epoch=1))
    assert not np.array_equal(orders[1], epoch_order(1000, seed=4, epoch=1))


def test_denormalize_inverts_normalize():
    latents = torch.from_numpy(samples(5)[0]).float()
    standard = contract().normalize(latents)
    assert torch.allclose(standard[:, 2], (latents[:, 2] - 0.5) / 2.5)
    assert torch.allclose(contract().denormalize(standard), latents, atol=1e-6)


def test_contract_json_round_trip():
    assert LatentContract.model_validate_json(contract().model_dump_json()) == contract()


def test_contract_json_layout_is_flat():
    """Manifests and models of earlier versions must stay readable."""
    assert list(json.loads(contract().model_dump_json())) == [
        "autoencoder",
        "autoencoder_digest",
        "image_size",
        "crop",
        "crop_seed",
        "flip",
        "max_upscale",
        "max_pixels",
        "dtype",
        "mean",
        "std",
    ]


def test_contract_gives_image_transform():
    transform = ImageTransform.model_validate(contract(crop="random"), from_attributes=True)
    settings = load_params().encode.model_copy(update={"crop": "random", "max_pixels": 10**6})
    assert transform == ImageTransform.of(settings, image_size=64)


def test_contract_refuses_other_weights():
    contract().check_autoencoder("0123456789abcdef")
    with pytest.raises(UserError, match="weights have digest fedcba"):
        contract().check_autoencoder("fedcba9876543210")
