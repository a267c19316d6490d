"""`liquidgen demo`: a page to draw from a trained model, here or as a Hugging Face Space."""

import json
import os
import shlex
import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from liquidgen.cli.sample import Device, Model, default_model
from liquidgen.cli.servers import free_port
from liquidgen.cli.ui import open_in_browser
from liquidgen.runtime.extras import PACKAGE, require_extra, requirements
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder

if TYPE_CHECKING:
    from packaging.requirements import Requirement

EXTRA = "demo"
HOST = "127.0.0.1"
PORT = 7860  # Gradio's default, and that of Spaces
CODE = Path(__file__).parents[1]
APP = """from liquidgen.pipeline.page import load, page

page(load("model")).launch()
"""
# not the SDK of Gradio: its builder asks for versions that others here exclude
DOCKERFILE = """FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir --user --requirement requirements.txt
COPY --chown=user . .
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT={port}
EXPOSE {port}
CMD ["python", "app.py"]
"""
CARD = """---
title: {title}
sdk: docker
app_port: {port}
---

Draws images with a model of LiquidGen. Its card is in model/README.md, and on the page. The license
of the code is in LICENSE.
"""

Port = Annotated[int, Option(min=1, max=65535, help="Port on this machine; if in use: a free one.")]
Space = Annotated[
    Path | None,
    Option(help="Write a Hugging Face Space into this new folder, instead of serving the page."),
]


def run(
    model: Model = None, device: Device = "auto", port: Port = PORT, space: Space = None
) -> None:
    """Draw from a trained model on a page in the browser, until Ctrl-C."""
    require_extra(EXTRA)
    source = str(model or default_model())
    if space is not None:
        write_space(space, source)
        upload = f"hf upload you/name {shlex.quote(str(space))} . --repo-type space --private"
        print(f"demo: a Space in {space}; upload: {upload}")
        return
    # torch and Gradio take seconds to import, and `liquidgen --help` needs none of it
    from liquidgen.pipeline.page import load, page

    serve(page(load(source, device)), port)


def serve(blocks: Any, port: int) -> None:
    """Serve a page of Gradio on this machine alone, until interrupted."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # pages of strangers in the same browser reach a local server by a host name of theirs
    own_hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    # Gradio asks its own server whether it is up
    os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST]))
    _, address, _ = blocks.launch(
        server_name=HOST,
        server_port=free_port(port),
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        app_kwargs={"middleware": [own_hosts]},
    )
    print(f"page: {address}\nstop with Ctrl-C", flush=True)
    open_in_browser(address)
    blocks.block_thread()


def write_space(folder: Path, source: str) -> None:
    """Write a Space that needs nothing but its own files and packages of PyPI.

    Args:
        folder: A folder that does not exist yet.
        source: The model, as `LiquidGenPipeline.from_pretrained` takes it.

    Raises:
        UserError: The folder exists, or the model cannot be loaded.
    """
    if folder.exists():
        raise UserError(f"{folder}: already exists; name a new folder by --space")
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

    pipe = LiquidGenPipeline.from_pretrained(source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as temporary:
        pipe.save_pretrained(temporary / "model")
        shutil.copytree(CODE, temporary / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        files = {
            "app.py": APP,
            "Dockerfile": DOCKERFILE.format(port=PORT),
            "LICENSE": distribution(PACKAGE).read_text("licenses/LICENSE") or "",
            "README.md": CARD.format(title=json.dumps(pipe.name, ensure_ascii=False), port=PORT),
            "requirements.txt": "".join(map(_line, requirements() + requirements(EXTRA))),
        }
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8")


def _line(requirement: "Requirement") -> str:
    """Return a requirement of the package as pip reads it, without the extra that asks for it."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}\n"
