"""Pipelines of small models, without progress bars."""

from pathlib import Path

from liquidgen import LiquidGenPipeline


def load(folder: Path | str, **options: object) -> LiquidGenPipeline:
    """Load a pipeline; `options` are those of `from_pretrained`."""
    pipe = LiquidGenPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe
