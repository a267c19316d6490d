"""Copy of the project in a folder of its own, with settings that run in seconds."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from helpers.restored import restored
from helpers.small_settings import SMALL_MODEL

if TYPE_CHECKING:
    from liquidgen.config.settings import AutoencoderSettings
    from liquidgen.latents.manifest import Manifest

PROJECT = Path(__file__).parents[2]
CONFIG_FILES = (
    "params.yaml",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/plots.html",
)
SMALL = {
    "dataset": "procedural",
    "image_size": 64,
    "autoencoder": "builtin",
    "model": "nano",
    "block": "liquid",
    "datasets.procedural.num_images": 200,
    "datasets.procedural.holdout_fraction": 0.2,
    "models.nano": SMALL_MODEL,
    "models.tiny": SMALL_MODEL | {"depth": [4, 2]},
    "train.num_epochs": 2,
    "train.learning_rate_decay": "none",
    "train.validate_every": 1,
    "train.preview_every": 1,
    "sample.num_images": 40,
    "sample.batch_size": 20,
    "sample.num_inference_steps": 4,
    "evaluate.kid_subset_size": 20,
    "evaluate.kid_subsets": 4,
    "machine.num_workers": 0,
}


def read_params(path: Path) -> dict[str, Any]:
    """Read params.yaml without validation."""
    return YAML(typ="safe").load(path)


def changed(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with other values of existing keys, given by their full path."""
    params = copy.deepcopy(params)
    for key, value in changes.items():
        *path, last = key.split(".")
        section = params
        for name in path:
            section = section[name]
        assert last in section, f"{key}: not in params.yaml"
        section[last] = value
    return params


def leaves(params: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full paths of all keys that hold a value."""
    for key, value in params.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def encoded(
    raw: Path,
    folder: Path,
    image_size: int,
    *,
    autoencoder: "AutoencoderSettings | None" = None,
    num_workers: int = 0,
    **changes: Any,
) -> "Manifest":
    """Encode a raw folder on the CPU with the settings of params.yaml, except `changes`."""
    from liquidgen.config.params import load_params
    from liquidgen.stages.encode.encode import encode

    params = load_params(PROJECT / "params.yaml")
    return encode(
        raw,
        folder,
        work_folder=folder.parent / "work",
        autoencoder_settings=autoencoder or params.autoencoder,
        image_size=image_size,
        settings=params.encode.model_copy(update=changes),
        device="cpu",
        num_workers=num_workers,
    )


class Checkout:
    """A copy of the project in which the pipeline runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def params(self) -> dict[str, Any]:
        """Content of params.yaml, not validated."""
        return read_params(self.root / "params.yaml")

    def write_params(self, params: dict[str, Any]) -> None:
        """Replace params.yaml."""
        with open(self.root / "params.yaml", "w") as file:
            YAML(typ="safe").dump(params, file)

    def change(self, **changes: Any) -> None:
        """Change keys of params.yaml; `__` in an argument stands for the dot of a path."""
        named = {key.replace("__", "."): value for key, value in changes.items()}
        self.write_params(changed(self.params, named))

    @contextmanager
    def edited(self, params: dict[str, Any]) -> Iterator[None]:
        """Replace params.yaml within a context."""
        with restored(self.root / "params.yaml"):
            self.write_params(params)
            yield

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout, with the virtual environment activated."""
        options = {"capture_output": True, "text": True, "check": False} | options
        return subprocess.run(command, cwd=self.root, env=self.environment(), **options)

    @contextmanager
    def start(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command in a process group of its own, which is killed at the end."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of commands in the checkout."""
        # nothing that a user has set, and no browser that `liquidgen compare` would open
        unset = ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
        kept = {key: value for key, value in os.environ.items() if key not in unset}
        return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def stage(self, name: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a stage without DVC."""
        return self.run("python", "-m", f"stages.{name}", **options)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; returns the stages that were executed, in order."""
        done = self.run("dvc", "repro", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"^Running stage '(\w+)':$", done.stdout, re.MULTILINE)

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all", check=True)
        # independent of the user's git configuration
        config = ("user.name=tests", "user.email=tests@localhost", "commit.gpgsign=false")
        config += ("core.hooksPath=/dev/null",)
        options = [option for value in config for option in ("-c", value)]
        self.run("git", *options, "commit", "--quiet", "--message", message, check=True)


def copy_project(root: Path) -> Checkout:
    """Copy the files of the pipeline into a new git repository, with the settings SMALL."""
    for name in ("liquidgen", "stages", *CONFIG_FILES):
        source = PROJECT / name
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    checkout = Checkout(root)
    checkout.write_params(changed(checkout.params, SMALL))
    checkout.run("git", "init", "--quiet", check=True)
    checkout.commit("start")
    return checkout
