"""A page that draws from a model: `liquidgen demo`, and the file app.py of a Hugging Face Space.

In a Space this file stands beside the folder of a saved pipeline and the package.
"""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from liquidgen.compute.device import resolve_device
from liquidgen.pipeline.pipeline import (
    GUIDANCE_SCALE,
    NUM_INFERENCE_STEPS,
    Images,
    LiquidGenPipeline,
)
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import markdown

ALL = "all classes"
MAX_IMAGES = 64  # one batch of the pipeline
FEW = 8  # images to begin with, without classes
LARGE = 128  # px, from which on a row has fewer images
MAX_STEPS = 200
MAX_GUIDANCE = 10.0
MODEL = Path(__file__).with_name("model")  # in a Space


def load(source: str | Path, device: str = "auto") -> LiquidGenPipeline:
    """Load a pipeline for a page, on a device."""
    pipe = LiquidGenPipeline.from_pretrained(source)
    pipe.to(resolve_device(device))
    pipe.set_progress_bar_config(disable=True)  # the page has its own
    return pipe


def page(pipe: LiquidGenPipeline) -> gr.Blocks:
    """Create the page of a model; `gradio.Blocks.launch` serves it."""
    metadata = pipe._metadata
    size = metadata.contract.image_size
    # without null labels there is nothing to guide away from
    has_guidance = bool(pipe.classes) and metadata.label_dropout > 0
    with gr.Blocks(title=f"LiquidGen: {metadata.name}", analytics_enabled=False) as blocks:
        gr.Markdown(f"# {markdown(metadata.name)}")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                chosen = gr.Dropdown(
                    [ALL, *(pipe.classes or ())],
                    value=ALL,
                    label="Class",
                    visible=bool(pipe.classes),
                )
                count = gr.Slider(
                    1,
                    MAX_IMAGES,
                    min(len(pipe.classes or ()) or FEW, MAX_IMAGES),
                    step=1,
                    label="Images",
                )
                guidance = gr.Slider(
                    1,
                    MAX_GUIDANCE,
                    GUIDANCE_SCALE if has_guidance else 1.0,
                    step=0.1,
                    label="Guidance scale (1 is off)",
                    visible=has_guidance,
                )
                steps = gr.Slider(1, MAX_STEPS, NUM_INFERENCE_STEPS, step=1, label="Steps")
                seed = gr.Number(0, precision=0, minimum=0, label="Seed")
                button = gr.Button("Draw", variant="primary")
            with gr.Column(scale=3):
                gallery = gr.Gallery(
                    label="Images", columns=5 if size < LARGE else 3, format="png", height="auto"
                )
        with gr.Accordion("Model card", open=False):
            gr.Markdown(pipe.model_card().text)
        # a pipeline draws one call at a time
        button.click(
            partial(_draw, pipe),
            [chosen, count, guidance, steps, seed],
            gallery,
            concurrency_limit=1,
            api_name="draw",
        )
    return blocks


def _draw(
    pipe: LiquidGenPipeline,
    chosen: str,
    count: int,
    guidance: float,
    steps: int,
    seed: int,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio finds it by this default
) -> list[tuple[Any, str]]:
    """Draw the images of the gallery; each has its class and seed as caption."""
    calls = 0

    def show(
        pipe: LiquidGenPipeline, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        progress((calls, pipe.num_timesteps), unit="steps")
        return tensors

    labels = None if chosen == ALL else chosen
    try:
        images: Images
        [images] = pipe(
            labels,
            num_images=count,
            guidance_scale=guidance,
            num_inference_steps=steps,
            seed=seed,
            callback_on_step_end=show,
            return_dict=False,
        )
        numbers = pipe.image_labels(labels, count)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    names = [pipe.classes[number] if pipe.classes else "" for number in numbers]
    captions = [f"{name} ({seed}, {i})".strip() for i, name in enumerate(names)]
    return list(zip(images, captions, strict=True))


if __name__ == "__main__":
    page(load(MODEL)).launch()
