"""The table of set sizes: nested subsets, one holdout, rows that are kept."""

import json
import sys
from pathlib import Path

import pytest
from helpers.checkout import SMALL

from benchmarks.small_data import main, subset
from liquidgen.config.settings import DownloadSettings, ProceduralSettings
from liquidgen.images.raw import RawDataset
from liquidgen.stages.download.download import download


def test_subsets_are_nested_and_keep_the_shares_of_classes():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    few, more = subset(labels, 20), subset(labels, 50)
    assert set(few) < set(more)
    assert [[labels[i] for i in few].count(label) for label in range(3)] == [12, 6, 2]
    assert [[labels[i] for i in more].count(label) for label in range(3)] == [30, 15, 5]
    assert subset(labels, 100) == [*range(100)]
    assert [labels[i] for i in subset(labels, 1)] == [0, 0, 1, 1, 2, 2]


def test_rows_are_measured_once_and_may_start_from_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    raw = tmp_path / "raw"
    dataset = ProceduralSettings(
        kind="procedural",
        license="CC0-1.0",
        num_images=100,
        render_size=32,
        seed=0,
        holdout_fraction=0.3,
    )
    settings = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)
    holdout = download(dataset, settings, raw, num_workers=0).splits["holdout"].count
    small = {key: SMALL["models.nano"][key] for key in ("width", "depth", "cond_dim")}
    changes = [f"models.nano.{key}={value}" for key, value in small.items()]
    changes += ["image_size=32", "train.batch_size=8", "sample.num_images=20"]
    changes += ["sample.num_inference_steps=2", "evaluate.kid_subset_size=10"]

    def rows(*lengths: str, folder: str = "out", settings: tuple[str, ...] = ()) -> list[str]:
        command = ["small_data", str(raw), str(tmp_path / folder), "--images", "30"]
        command += ["--set", *changes, *settings, "--seen", *lengths]
        monkeypatch.setattr(sys, "argv", command)
        main()
        return capsys.readouterr().out.splitlines()[2:]

    [row] = rows("48")
    assert row.startswith("| 30 | 48 | 2 | ")
    splits = RawDataset(tmp_path / "out/30/raw").info.splits
    assert {name: split.count for name, split in splits.items()} == {
        "train": 30,
        "holdout": holdout,
    }
    before = (tmp_path / "out/30/48.json").stat().st_mtime_ns
    longer = rows("48", "96")
    assert longer[0] == row
    assert longer[1].startswith("| 30 | 96 | 4 | ")
    assert (tmp_path / "out/30/48.json").stat().st_mtime_ns == before

    start = (f"train.init_from={tmp_path / 'out/30/96/model'}",)
    rows("48", folder="continued", settings=start)
    files = [tmp_path / folder / "30/48.json" for folder in ("out", "continued")]
    losses = [json.loads(file.read_bytes())["validation_loss"] for file in files]
    assert losses[1] < losses[0]
