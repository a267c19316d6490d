"""`block: attention` from training to saved pipeline: every step takes it as it takes `liquid`."""

import io

import numpy as np
from helpers.training import CPU, SAMPLE, MemoryLog, assert_same_end, prepare, stop, train
from huggingface_hub import ModelCard
from PIL import Image

from liquidgen import LiquidGenPipeline
from liquidgen.config.params import load_params
from liquidgen.images.raw import RawDataset
from liquidgen.stages.sample.sample import sample
from liquidgen.stages.train.export import export

PARAMS = load_params(changes={"block": "attention"})


def test_attention_trains_resumes_samples_and_is_saved(tmp_path, latents):
    assert PARAMS.run_name.endswith("-attention")

    # trains, with previews, and resumes
    training = prepare(tmp_path / "work", latents, params=PARAMS, preview_every=1)
    assert training.folder != prepare(tmp_path / "work", latents, preview_every=1).folder
    stop(training, at=3)
    log = MemoryLog()
    trainer = train(training, log)
    assert len(log.images) == 2
    assert_same_end(trainer, train(prepare(tmp_path / "straight", latents, params=PARAMS)))

    # samples
    model, samples = tmp_path / "model", tmp_path / "samples"
    export(trainer, model, tmp_path / "metrics", name=PARAMS.run_name, run_id="run")
    settings = SAMPLE.model_copy(update={"num_images": 3, "batch_size": 3})
    sample(model, samples, settings=settings, device=CPU)
    drawn = [
        np.asarray(Image.open(io.BytesIO(record.data)))
        for record in RawDataset(samples).records("samples")
    ]

    # is saved and loaded
    LiquidGenPipeline.from_pretrained(model).save_pretrained(tmp_path / "saved")
    pipe = LiquidGenPipeline.from_pretrained(tmp_path / "saved")
    assert pipe.liquidnet.config.block == "attention"
    images = pipe(
        num_images=3, seed=settings.seed, num_inference_steps=settings.num_inference_steps
    ).images
    assert np.array_equal(np.stack(images), np.stack(drawn))
    card = ModelCard.load(tmp_path / "saved/README.md")
    assert "32 px of attention blocks" in card.text
    assert "attention-free" not in card.data.tags
    assert "without attention" not in card.text
