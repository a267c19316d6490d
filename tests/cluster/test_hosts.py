"""Encode and train on three hosts with networks and folders of their own; `make hosts` runs it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import Checkout
from helpers.network_hosts import NetworkHosts, network_hosts
from helpers.processes import TOLERANCE, curve, trained_alone, wait_for

from liquidgen.latents.manifest import read_manifest


@pytest.fixture
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NetworkHosts]:
    if not request.config.getoption("--hosts"):
        pytest.skip("makes networks: as root, pytest tests/cluster/test_hosts.py --hosts")
    (tmp_path / "home").mkdir()
    with network_hosts(3, tmp_path / "home", tmp_path) as running:
        yield running


def test_encode_is_the_same_though_a_host_is_cut_off(hosts: NetworkHosts, checkout: Checkout):
    checkout.change(datasets__procedural__num_images=8192, datasets__procedural__render_size=64)
    for stage in ("download", "encode"):
        assert checkout.stage(stage).returncode == 0
    (latents,) = (checkout.root / "data/latents").iterdir()
    expected = read_manifest(latents)
    shutil.rmtree(latents)

    checkout.change(machine__engine="ray", machine__ray_address=hosts.address)
    with checkout.start(*hosts.on_head("python", "-m", "stages.encode")) as encode:
        wait_for(lambda: [*(checkout.root / "work/encode").glob("*/*/*.json")])
        hosts.cut_off(2)
        assert len([*(checkout.root / "work/encode").glob("*/*/*.json")]) < 8
        _, err = encode.communicate()
    assert encode.returncode == 0, err.decode()
    assert read_manifest(latents) == expected  # with the digests of all shards


def test_training_goes_on_though_a_host_is_cut_off(hosts: NetworkHosts, checkout: Checkout):
    changes = {"train__num_epochs": 40, "train__preview_every": 0, "train__batch_size": 30}
    checkout.change(train__checkpoint_every=0.5, train__seed=1, **changes)
    expected = trained_alone(checkout)

    address = {"machine__engine": "ray", "machine__ray_address": hosts.address}
    checkout.change(machine__num_processes=3, **address)
    with checkout.start(*hosts.on_head("python", "-m", "stages.train")) as train:
        wait_for(lambda: [*(checkout.root / "work/train").glob("*/step-*")])
        hosts.cut_off(2)
        out, err = train.communicate()
    assert train.returncode == 0, err.decode()
    assert b"WARNING: train: a process was lost (" in err
    assert b"Traceback" not in err
    assert out.count(b"train: 200 steps in ") == 1
    np.testing.assert_allclose(curve(checkout), expected, rtol=TOLERANCE)
