"""Damage at rest: doctor names it, stages refuse it, and repair with `dvc repro` removes it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.damage import flip_a_bit
from helpers.small_latents import write

from liquidgen.cli.health.checks import outputs
from liquidgen.cli.health.damage import check_outputs, set_aside_damage
from liquidgen.cli.health.findings import Level
from liquidgen.cli.health.repair import RWLOCK, repair
from liquidgen.latents.shards import verify
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked

pytestmark = pytest.mark.fault("rot: flipped bits in data and cache")


def contents(root: Path) -> dict[str, bytes]:
    """Content of all outputs by path."""
    paths = [*(root / "data").rglob("*"), *(root / "metrics").iterdir()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.is_file()}


def rotten_objects(root: Path) -> list[Path]:
    """Objects in DVC's cache that are not what their names say."""
    return [
        path
        for path in (root / ".dvc/cache/files/md5").glob("*/*")
        if hashlib.md5(path.read_bytes()).hexdigest() != f"{path.parent.name}{path.stem}"
    ]


def error_of(checkout: Checkout, stage: str) -> str:
    done = checkout.stage(stage)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("thorough")
def test_flipped_bits_are_refused_named_and_mended(checkout: Checkout):
    """The remedy of the messages, as they say it; the same bytes are made again."""
    checkout.run("dvc", "checkout", "--relink", check=True)  # a copied checkout has no links
    before = contents(checkout.root)
    damaged = {
        "holdout": next(checkout.root.glob("data/raw/*/holdout-00000.parquet")),
        "shard": next(checkout.root.glob("data/latents/*/train-00000.tar")),
        "weights": next(checkout.root.glob("data/models/*/liquidnet/*.safetensors")),
        "samples": next(checkout.root.glob("data/samples/*/samples-00000.parquet")),
        "figure": next(checkout.root.glob("data/evaluation/*/classes.png")),
    }
    refusals = {}
    for name, stage in (("weights", "sample"), ("samples", "evaluate"), ("holdout", "evaluate")):
        flip_a_bit(damaged[name])
        refusals[name] = error_of(checkout, stage)
        flip_a_bit(damaged[name])  # whole again
    for path in damaged.values():
        flip_a_bit(path)
    for name, line in refusals.items():
        assert f"{damaged[name].name}: damaged, its sha256 is not the recorded one" in line
        assert line.endswith("; run `liquidgen repair`, then `dvc repro`")

    doctor = checkout.run("liquidgen", "doctor")
    assert doctor.returncode == 1
    assert doctor.stdout.count("\nwrong data") == len(damaged)
    assert all(f"{path}: damaged" in doctor.stdout for path in damaged.values())

    repaired = checkout.run("liquidgen", "repair")
    assert repaired.returncode == 0, repaired.stderr
    assert all(f"{path} was damaged and is now" in repaired.stderr for path in damaged.values())
    assert rotten_objects(checkout.root) == []
    checkout.repro()
    assert before == contents(checkout.root) | {
        name: data
        for name, data in before.items()
        if name.startswith("metrics/train")  # speed
    }

    # what DVC keeps is whole, too: nothing damaged comes back
    shutil.rmtree(checkout.root / "data")
    assert checkout.run("dvc", "checkout").returncode == 0
    assert {k: v for k, v in before.items() if k.startswith("data/")} == {
        k: v for k, v in contents(checkout.root).items() if k.startswith("data/")
    }
    assert "nothing to do" in checkout.run("liquidgen", "repair").stderr


def cached(root: Path, link: Callable[[Path, Path], object]) -> tuple[Path, Path]:
    """Latents whose shard is an object of DVC's cache, or its copy; returns both files."""
    folder = root / "data/latents/set"
    write(folder)
    shard = folder / "train-00001.tar"
    digest = hashlib.md5(shard.read_bytes()).hexdigest()
    stored = root / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"
    stored.parent.mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    shutil.move(shard, stored)
    link(stored, shard)
    return shard, stored


LINKS = {"hard link": os.link, "symbolic link": os.symlink, "copy": shutil.copyfile}


@pytest.mark.parametrize("link", LINKS)
def test_damage_is_set_aside_with_its_object(tmp_path: Path, link: str):
    shard, stored = cached(tmp_path, LINKS[link])
    whole = shard.read_bytes()
    assert [one.damage for one in check_outputs(tmp_path)] == [""] * 2
    flip_a_bit(shard)
    assert [one.path for one in check_outputs(tmp_path) if one.damage] == [shard]
    lines = list(set_aside_damage(tmp_path))
    assert str(shard) in lines[0]
    assert not shard.exists()
    assert not shard.is_symlink()
    assert stored.exists() == (link == "copy")
    aside = tmp_path / "work/damaged" / shard.relative_to(tmp_path)
    assert len(aside.read_bytes()) == len(whole)
    if link == "copy":
        assert stored.read_bytes() == whole
    assert not list((tmp_path / "data/latents").glob(".*"))  # no lock stays


def test_object_that_rotted_beside_its_copy_is_deleted(tmp_path: Path):
    shard, stored = cached(tmp_path, shutil.copyfile)
    flip_a_bit(shard)
    flip_a_bit(stored, 0.3)
    assert any(str(stored) in line for line in set_aside_damage(tmp_path))
    assert not stored.exists()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.9])
def test_damaged_manifest_is_set_aside(tmp_path: Path, place: float):
    cached(tmp_path, os.link)
    manifest = tmp_path / "data/latents/set/manifest.json"
    flip_a_bit(manifest, place)
    assert [one.path for one in check_outputs(tmp_path) if one.damage] == [manifest]
    list(set_aside_damage(tmp_path))
    assert not manifest.exists()


def test_intact_outputs_need_no_repair(tmp_path: Path, capsys: pytest.CaptureFixture):
    cached(tmp_path, os.link)
    repair(tmp_path)
    assert capsys.readouterr().err == "repair: nothing to do, all outputs are as recorded\n"
    assert verify(tmp_path / "data/latents/set").splits["train"].count == 50


def test_outputs_are_left_alone_while_dvc_runs(tmp_path: Path, capsys: pytest.CaptureFixture):
    shard, _ = cached(tmp_path, os.link)
    flip_a_bit(shard)
    (tmp_path / ".dvc/tmp").mkdir()
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "dvc", "repro"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()  # before it runs, it has no command line to be known by
        entry = {"pid": process.pid, "cmd": "dvc repro"}
        (tmp_path / RWLOCK).write_text(json.dumps({"write": {"a": entry}, "read": {}}))
        repair(tmp_path)
        process.stdin.close()
    assert "its outputs were not checked" in capsys.readouterr().err
    assert shard.exists()


def test_outputs_are_left_alone_while_a_stage_writes(tmp_path: Path):
    shard, _ = cached(tmp_path, os.link)
    flip_a_bit(shard)
    with locked(shard.parent, "fills this folder"), pytest.raises(UserError, match="another proc"):
        list(set_aside_damage(tmp_path))
    assert shard.exists()


def test_unreadable_settings_of_dvc_are_one_line(tmp_path: Path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core\nno_scm = true\n")
    for look in (lambda: [*check_outputs(tmp_path)], lambda: repair(tmp_path)):
        with pytest.raises(UserError, match=r"config: config file error: .*; correct it$"):
            look()
    assert [str(finding.level) for finding in outputs(tmp_path)] == [str(Level.WRONG)]
