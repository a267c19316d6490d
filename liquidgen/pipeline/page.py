"""A page that draws from a model: of `liquidgen demo`, and of the Space that it writes."""

import html
from functools import partial

import gradio as gr
import torch
from PIL import Image

from liquidgen.compute.device import resolve_device
from liquidgen.pipeline.labels import label_name
from liquidgen.pipeline.pipeline import BATCH_SIZE, LiquidGenPipeline
from liquidgen.utils.errors import UserError
from liquidgen.utils.image_size import sides
from liquidgen.utils.memory import memory_errors
from liquidgen.utils.text import markdown

ALL_CLASSES = ("all classes in turn", "")  # label and value; no class has an empty name
DEFAULT_NUM_IMAGES = 8  # without classes; with them, one of each
MAX_STEPS = 200
MAX_GUIDANCE_SCALE = 10.0
FEW_COLUMNS_FROM = 128  # px: larger images have fewer in a row
KEPT_SECONDS = 3600  # of drawn images on the server


def load(source: str, device: str = "auto") -> LiquidGenPipeline:
    """Load a pipeline for a page, on a device."""
    pipe = LiquidGenPipeline.from_pretrained(source)
    pipe.to(resolve_device(device))
    pipe.set_progress_bar_config(disable=True)  # the page has its own
    return pipe


def page(pipe: LiquidGenPipeline) -> gr.Blocks:
    """Create the page of a model; its method `launch` serves it."""
    metadata = pipe._metadata
    classes = pipe.classes or ()
    with gr.Blocks(
        title=f"LiquidGen: {pipe.name}",
        analytics_enabled=False,
        delete_cache=(KEPT_SECONDS, KEPT_SECONDS),
    ) as blocks:
        gr.Markdown(f"# {markdown(pipe.name)}")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                class_labels = gr.Dropdown(
                    [ALL_CLASSES, *((name, name) for name in classes)],
                    value=ALL_CLASSES[1],
                    label="Class",
                    visible=bool(classes),
                )
                num_images = gr.Slider(
                    minimum=1,
                    maximum=BATCH_SIZE,
                    value=min(len(classes) or DEFAULT_NUM_IMAGES, BATCH_SIZE),
                    step=1,
                    precision=0,
                    label="Images",
                )
                guidance_scale = gr.Slider(
                    minimum=1,
                    maximum=MAX_GUIDANCE_SCALE,
                    value=pipe.default_guidance_scale,
                    step=0.1,
                    label="Guidance scale (1 is off)",
                    visible=pipe.default_guidance_scale > 1,
                )
                steps = gr.Slider(
                    minimum=1,
                    maximum=MAX_STEPS,
                    value=pipe.default_num_inference_steps,
                    step=1,
                    precision=0,
                    label="Steps",
                )
                seed = gr.Number(0, precision=0, minimum=0, label="Seed")
                button = gr.Button("Draw", variant="primary")
            with gr.Column(scale=3):
                gallery = gr.Gallery(
                    label="Images",
                    columns=5 if sides(metadata.contract.image_size)[1] < FEW_COLUMNS_FROM else 3,
                    format="png",
                    height="auto",
                )
        with gr.Accordion("Model card", open=False):
            gr.Markdown(pipe.model_card().text)
        button.click(
            partial(_draw, pipe),
            [class_labels, num_images, guidance_scale, steps, seed],
            gallery,
            concurrency_limit=1,  # a pipeline draws one call at a time
            api_name="draw",
        )
    return blocks


def _draw(
    pipe: LiquidGenPipeline,
    class_labels: str,
    num_images: int,
    guidance_scale: float,
    num_inference_steps: int,
    seed: int | None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio finds it by this default
) -> list[tuple[Image.Image, str]]:
    """Draw the images of the gallery, each with its number and class as caption."""

    def show(
        pipe: LiquidGenPipeline, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        progress((step + 1, pipe.num_timesteps), unit="steps")
        return tensors

    try:
        if seed is None:  # an empty field
            raise UserError("seed: is empty; give a whole number")
        with memory_errors("draw fewer images at once"):
            images, *_ = pipe(
                class_labels or None,
                num_images=num_images,
                guidance_scale=guidance_scale,
                num_inference_steps=num_inference_steps,
                seed=seed,
                callback_on_step_end=show,
                return_dict=False,
            )
        labels = pipe.image_labels(class_labels or None, num_images)
    except UserError as error:
        # it may have the name of a stranger's model
        raise gr.Error(html.escape(str(error)), print_exception=False) from None
    names = (label_name(label, pipe.classes) for label in labels)
    captions = [f"{number} {name}".strip() for number, name in enumerate(names)]
    return list(zip(images, captions, strict=True))
