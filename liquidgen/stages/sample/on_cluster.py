"""Draws images on the nodes of a cluster; this node has the model, and keeps what is drawn."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm.auto import tqdm

from liquidgen.cluster.connection import Cluster
from liquidgen.cluster.mapping import Ask, map_on_cluster
from liquidgen.config.paths import absolute
from liquidgen.config.settings import AutoencoderSettings, SampleSettings
from liquidgen.generator.model_folder import load_model
from liquidgen.stages.sample.drawer import Drawer, Drawn, parts_of
from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import Batches

DTYPE = "dtype"  # file with the precision of the network
NAMES = ""  # the question for the names of the model's files


@contextmanager
def draw_on_cluster(
    cluster: Cluster,
    model_folder: Path,
    autoencoder: AutoencoderSettings,
    settings: SampleSettings,
    work_folder: Path,
) -> Iterator[Drawn]:
    """Draw all images, and keep them on the disk of this node until the end of the context.

    Args:
        cluster: The cluster.
        model_folder: Folder of the stage train.
        autoencoder: The autoencoder of its latents.
        settings: Settings of the stage sample.
        work_folder: Folder for the images, which is replaced, and deleted at the end.

    Raises:
        UserError: As `Drawer`, of any node; or the cluster failed.
    """
    # what a killed process left
    shutil.rmtree(work_folder, ignore_errors=True)
    work_folder.mkdir(parents=True)
    try:
        files = cluster.start_actor(_Files, model_folder.absolute(), work_folder.absolute())
        create = partial(_Worker, absolute(autoencoder), settings, cluster.device)
        with tqdm(desc="sample", total=settings.num_images, unit="img") as bar:
            parts = parts_of(settings)
            for numbers in map_on_cluster(cluster, parts, files, create, num_cpus=1):
                bar.update(len(numbers))
        paths = (work_folder / f"{number}.png" for number in range(settings.num_images))
        dtype = getattr(torch, (work_folder / DTYPE).read_text())
        yield Drawn(dtype, (path.read_bytes() for path in paths))
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)


class _Files:
    """Actor on this node: reads the files of the model, and stores images."""

    def __init__(self, model_folder: Path, folder: Path) -> None:
        self._model_folder = model_folder
        self._folder = folder

    def read(self, name: str) -> bytes | list[str]:
        if name == NAMES:
            files = (path for path in self._model_folder.rglob("*") if path.is_file())
            return [str(path.relative_to(self._model_folder)) for path in files]
        return (self._model_folder / name).read_bytes()

    def store(self, numbers: range, drawn: tuple[str, list[bytes]]) -> None:
        dtype, images = drawn
        chosen = self._folder / DTYPE
        if chosen.exists() and chosen.read_text() != dtype:
            raise UserError(
                f"sample.precision: GPUs of the cluster chose {chosen.read_text()} and {dtype}; "
                "set it to fp32, or to one that all of them have"
            )
        chosen.write_text(dtype)
        for number, image in zip(numbers, images, strict=True):
            (self._folder / f"{number}.png").write_bytes(image)


class _Worker:
    """Draws parts in a process of the cluster, for as long as that lives."""

    def __init__(
        self, autoencoder: AutoencoderSettings, settings: SampleSettings, device: str
    ) -> None:
        self._autoencoder = autoencoder
        self._settings = settings
        self._device = torch.device(device)
        self._batches = Batches(settings.batch_size, "sample.batch_size")
        self._drawer: Drawer | None = None

    def __call__(self, numbers: range, ask: Ask) -> tuple[str, list[bytes]]:
        self._drawer = self._drawer or self._load(ask)
        images = chain.from_iterable(self._batches.map(self._drawer.draw, numbers))
        return str(self._drawer.dtype).removeprefix("torch."), list(images)

    def _load(self, ask: Ask) -> Drawer:
        """Load a copy of the model, which is verified by its own metadata."""
        [names] = ask([NAMES])
        with TemporaryDirectory() as folder:
            for name, content in zip(names, ask(names), strict=True):
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            model, metadata = load_model(Path(folder))
        contract = metadata.contract.model_copy(update={"autoencoder": self._autoencoder})
        metadata = metadata.model_copy(update={"contract": contract})
        return Drawer(model, metadata, self._settings, self._device)
