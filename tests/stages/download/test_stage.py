"""The stage download as it is recorded: its closing line, and what MLflow keeps."""

from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from helpers.small_data import fill

from liquidgen.config.params import load_params
from liquidgen.stages.download.stage import main
from liquidgen.tracking.store import Store


def test_skipped_files_are_named_and_kept_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "images", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)])
    (tmp_path / "images/cat/empty.png").touch()
    (tmp_path / "images/notes.txt").touch()
    params = load_params(PROJECT / "params.yaml", {"dataset": "own_folder"})
    line = main(params, tmp_path)
    assert line == (
        "download: images in 2 classes of 4 ('cat', 'dog'): 2 holdout, 6 train; license unknown; "
        "2 skipped: 1 empty_file, 1 unsupported_file in data/raw/own_folder; "
        "data/raw/own_folder/skipped.csv lists them: 'cat/empty.png' (empty_file), "
        "'notes.txt' (unsupported_file)"
    )
    client = Store(tmp_path).client
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    kept = Path(client.download_artifacts(run.info.run_id, "skipped.csv"))
    assert kept.read_bytes() == (tmp_path / "data/raw/own_folder/skipped.csv").read_bytes()
