"""What a person sees of a run: its name, its description, its pictures."""

from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from helpers.tracking import PARAMS, opened, rows, stored, trained
from PIL import Image

from liquidgen.config.changes import Changes
from liquidgen.config.params import load_params
from liquidgen.tracking.labels import free_name, with_image
from liquidgen.tracking.store import Store

PICTURE = Image.new("RGB", (8, 8))


def changes(**changed: object) -> Changes:
    """Settings of the project that are other than those of a commit."""
    now = {key.replace("__", "."): ("before", value) for key, value in changed.items()}
    return Changes(load_params(PROJECT / "params.yaml"), "abc1234", now)


def scored(root: Path, training: str, kid: float, **settings: object) -> str:
    """Record a sampling and an evaluation; returns MLflow's id of the row that shows them."""
    params = PARAMS | {key.replace("__", "."): value for key, value in settings.items()}
    other = changes(**settings)
    with opened(root, "sample", parent=training, params=params, changes=other) as child:
        child.log_image(PICTURE, "samples", 0, on_parent=True)
    with opened(root, "evaluate", parent=training, params=params, changes=other) as child:
        child.log_to_parent({"kid": kid})
    return stored(root, child.run_id).data.tags["mlflow.parentRunId"]


def name(root: Path, run: str) -> str:
    return stored(root, run).info.run_name


def note(root: Path, run: str) -> str:
    return stored(root, run).data.tags["mlflow.note.content"]


def test_runs_of_one_name_are_numbered(root: Path):
    ids = [trained(root, range(1), epochs=epochs, name='a "b" c%') for epochs in (1, 2, 3)]
    names = [name(root, run) for run in ids]
    assert names == ["a 'b' c%", "a 'b' c% (2)", "a 'b' c% (3)"]


def test_free_name_is_the_first_number_that_is_free():
    assert free_name("a", {"a", "a (2)", "a (4)", "ab"}) == "a (3)"
    assert free_name("a", {"ab"}) == "a"


@pytest.mark.parametrize("given", ["my favorite", "c86b procedural-64-builtin-nano-liquid"])
def test_name_that_a_run_has_stays_when_it_goes_on(root: Path, given: str):
    """That of the user, or of an earlier version."""
    training = trained(root, range(2))
    Store(root).client.update_run(training, name=given)
    assert trained(root, range(2, 4), resume=training) == training
    assert name(root, training) == given
    other = scored(root, training, 1.0, sample__guidance_scale=4.0)
    assert other == training
    assert name(root, training) == f"{given} guidance=4"
    assert name(root, scored(root, training, 1.0, sample__guidance_scale=5.0)) == (
        f"{given} guidance=5"
    )


def test_sweep_of_one_training_is_rows_with_its_results(root: Path):
    with opened(root, name="nano epochs=24", changes=changes(train__num_epochs=24)) as run:
        run.log_metrics({"validation_loss": 0.712345678, "parameters": 1234567}, 40)
    first = scored(root, run.run_id, 0.5)
    second, third = (
        scored(root, run.run_id, scale / 10, sample__guidance_scale=scale) for scale in (3.0, 4.5)
    )
    assert [name(root, row) for row in (first, second, third)] == [
        "nano epochs=24",
        "nano epochs=24 guidance=3",
        "nano epochs=24 guidance=4.5",
    ]
    for row, kid in ((first, 0.5), (second, 0.3), (third, 0.45)):
        metrics = stored(root, row).data.metrics
        assert metrics["evaluate/kid"] == kid
        assert metrics["train/parameters"] == 1234567
        assert metrics["train/validation_loss"] == 0.71235
        assert "![samples](get-artifact?path=images%2Fsamples" in note(root, row)
    assert f"/runs/{run.run_id}" in note(root, second)
    assert "sample.guidance\\_scale" in note(root, second)
    assert "train.num\\_epochs" in note(root, first)
    found = rows(root)
    assert sum(row.data.tags["stage"] == "train" for row in found) == 3
    assert len(found) == 3 + 6


def test_picture_in_description_is_the_newest_and_the_words_stay(root: Path):
    training = trained(root, range(1))
    scored(root, training, 1.0)
    client = Store(root).client
    client.set_tag(training, "mlflow.note.content", f"my words\n\n{note(root, training)}")
    before = note(root, training)
    scored(root, training, 1.0)
    after = note(root, training)
    assert after.startswith("my words\n\n")
    assert after.count("![samples]") == 1
    assert after != before


def test_files_of_other_series_are_not_shown():
    files = ["images/samples2+step+0+timestamp+9+x.png", "images/samples+step+0+timestamp+1+x.webp"]
    assert with_image("words", "id", "samples", files) == "words"


def test_previews_of_trainings_of_any_length_have_common_steps(root: Path):
    for epochs in (1, 3):
        journal = root / f"work/train/key/epochs-{epochs}/metrics.jsonl"
        last = 40 * epochs
        with opened(root, journal=journal, last_step=last) as run:
            for step in range(20, last + 1, 20):
                run.log_image(PICTURE, "preview", step)
        images = Store(root).client.list_artifacts(run.run_id, "images")
        steps = {int(image.path.replace("%", "+").split("+")[2]) for image in images}
        assert 100 in steps
        assert steps == {round(100 * step / last) for step in range(20, last + 1, 20)}


def test_parent_of_a_store_of_an_earlier_version_is_shown(root: Path):
    """Its training has no description, and its header none of the new keys."""
    training = trained(root, range(2))
    state = root / "work/train/key/epochs-1/metrics.state.json"
    text = state.read_text()
    for key in ('"description": "",', '"later": "",', '"last_step": null,'):
        assert key in text
        text = text.replace(key, "")
    state.write_text(text)
    assert trained(root, range(2, 4), resume=training) == training
    assert scored(root, training, 0.1) == training


def test_name_of_a_training_is_text_in_the_description_of_its_other_rows(root: Path):
    training = trained(root, range(1), name="x](http://example.invalid) [y")
    scored(root, training, 0.5)
    other = scored(root, training, 0.5, sample__guidance_scale=5.0)
    assert note(root, other).startswith(r"Another row of the training [x\](http://example.invalid)")


def test_training_that_was_recorded_elsewhere_gets_its_description(root: Path):
    training = "ab" * 16
    row = scored(root, training, 0.5)
    picture = note(root, row)
    assert picture.startswith("![samples]")
    other = changes(train__num_epochs=24)
    with opened(root, name="nano epochs=24", resume=training, changes=other):
        pass
    assert name(root, row) == "nano epochs=24"
    assert note(root, row) == f"{other.description()}\n\n{picture}"
