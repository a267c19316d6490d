"""`liquidgen demo`: a page to draw from a trained model, here or as a Hugging Face Space."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from liquidgen.cli.sample import Device, Model, default_model
from liquidgen.cli.ui import has_display
from liquidgen.runtime.extras import require_extra, requirements
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder

if TYPE_CHECKING:
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

EXTRA = "demo"
PACKAGE = Path(__file__).parents[1]
PAGE = PACKAGE / "pipeline/page.py"
SPACE_CARD = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
---

Draws images with a model of LiquidGen. Its card is in model/README.md, and on the page.
"""

Port = Annotated[int | None, Option(help="Port on this machine; default: 7860 or one above it.")]
Space = Annotated[
    Path | None,
    Option(help="Write a Hugging Face Space into this new folder, instead of serving the page."),
]


def run(
    model: Model = None, device: Device = "auto", port: Port = None, space: Space = None
) -> None:
    """Draw from a trained model on a page in the browser, until Ctrl-C."""
    require_extra(EXTRA)
    # torch and Gradio take seconds to import, and `liquidgen --help` needs none of it
    from liquidgen.pipeline.page import load, page

    pipe = load(model or default_model(), device)
    if space is not None:
        write_space(space, pipe)
        print(f"demo: a Space in {space}; upload: hf upload you/name {space} . --repo-type space")
        return
    try:
        page(pipe).launch(server_port=port, share=False, inbrowser=has_display())
    except OSError as error:
        raise UserError(f"--port: {error}") from None


def write_space(folder: Path, pipe: "LiquidGenPipeline") -> None:
    """Write a Space that needs nothing but its own files and packages of PyPI.

    Args:
        folder: A folder that does not exist yet.
        pipe: The pipeline, with its trained weights.

    Raises:
        UserError: The folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder}: already exists; name a new folder by --space")
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = [one for one in requirements() + requirements(EXTRA) if one.name != "gradio"]
    with new_folder(folder) as temporary:
        pipe.save_pretrained(temporary / "model")
        shutil.copytree(PACKAGE, temporary / PACKAGE.name, ignore=shutil.ignore_patterns("*.pyc"))
        shutil.copy(PAGE, temporary / "app.py")
        (temporary / "requirements.txt").write_text(
            "".join(f"{one.name}{one.specifier}\n" for one in needed)
        )
        title = json.dumps(pipe.model_card().text.strip().splitlines()[0].removeprefix("# "))
        (temporary / "README.md").write_text(
            SPACE_CARD.format(title=title, gradio=version("gradio"))
        )
