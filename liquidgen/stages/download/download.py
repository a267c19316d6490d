"""The stage download: writes the images of a source unchanged, split into train and holdout."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from liquidgen.config.settings import DatasetSettings, DownloadSettings
from liquidgen.images.raw import RawWriter
from liquidgen.images.raw_info import RawInfo
from liquidgen.stages.download.sources import SOURCES
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.reasons import Reason
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder
from liquidgen.utils.text import SHOWN, listed

# what to do when no image is left
HINTS = {
    Reason.ONLY_PATH: "the image column holds only paths: embed the images",
    Reason.NO_LABEL: "no row has a label: set `label_column: null`",
}


def download(
    dataset: DatasetSettings, settings: DownloadSettings, folder: Path, *, num_workers: int
) -> RawInfo:
    """Write the images of a dataset into a folder in the raw format.

    The folder is replaced at the end: a failure leaves the earlier one as it was.

    Args:
        dataset: Block of the dataset.
        settings: Section of the stage.
        folder: The folder to replace.
        num_workers: Processes that draw procedural images.

    Returns:
        The description of the folder's content, as it is stored beside it.

    Raises:
        UserError: No images, a class with one image only, or a holdout fraction of 0.
    """
    if dataset.holdout_fraction == 0:
        raise UserError(
            "holdout_fraction: 0 leaves no images to validate with; set more, such as 0.1"
        )
    source = SOURCES[dataset.kind](dataset, settings, num_workers)
    choice = HoldoutChoice(dataset.holdout_fraction, settings.split_seed)
    with (
        # ends worker processes and connections also where a traceback keeps the source
        closing(source.records) as records,
        new_folder(folder) as temporary,
        RawWriter(temporary, source.classes, settings.max_file_mb) as writer,
    ):
        size = 0
        bar = tqdm(records, desc="download", total=source.total, unit="img")
        for record in bar:
            size += len(record.data)
            bar.set_postfix_str(tqdm.format_sizeof(size, "B"), refresh=False)
            writer.add("holdout" if choice(record.label) else "train", record)
        _check(choice.seen, source)
        source.skipped.write(temporary)
        return writer.finish(
            license=source.license,
            origin=source.origin,
            revision=source.revision,
            refused=dict(source.skipped.counts),
        )


class HoldoutChoice:
    """Decides for each image of a stream whether it is held out, evenly within each class.

    The decision for the k-th image of a class depends on the seed, the class and k alone. Of the
    first k images, floor(offset + fraction k) are held out (systematic sampling with a random
    offset), but of the first two exactly one, and of more always at least one and never all.

    Attributes:
        seen: Number of images so far, by label.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self._fraction = fraction
        self._seed = seed
        self._offsets: dict[int | None, tuple[float, bool]] = {}
        self.seen: Counter = Counter()

    def __call__(self, label: int | None) -> bool:
        """Return whether the next image of this class is held out."""
        k = self.seen[label]
        self.seen[label] += 1
        return self._held_out(label, k + 1) > self._held_out(label, k)

    def _held_out(self, label: int | None, k: int) -> int:
        """Count the held-out images among the first k of a class."""
        if label not in self._offsets:
            rng = np.random.default_rng([self._seed, 0 if label is None else label])
            self._offsets[label] = (rng.random(), bool(rng.integers(2)))
        offset, first = self._offsets[label]
        if k < 2:
            return int(first and k == 1)
        return min(max(int(offset + self._fraction * k), 1), k - 1)


def _check(seen: Counter, source: Source) -> None:
    """Refuse a source without images, or with classes that cannot be learned."""
    if not seen:
        counts = source.skipped.counts
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        hints = [hint for reason, hint in HINTS.items() if counts[reason]]
        raise UserError(
            f"{source.origin}: no usable image ({reasons or 'nothing there'}); "
            + (hints[0] if hints else "add images or correct the dataset's block")
        )
    if source.classes is None:
        if seen.total() == 1:
            raise UserError(
                f"{source.origin}: one image only; at least two are needed, one to hold out"
            )
        return
    if empty := [name for label, name in enumerate(source.classes) if label not in seen]:
        raise UserError(
            f"{source.origin}: no image of class {listed(empty)}; a model cannot learn what it "
            "never sees: add images, raise max_images, or leave the class out"
        )
    if single := [source.classes[label] for label, count in sorted(seen.items()) if count == 1]:
        captions = f"; if these are captions, not classes, set `{source.unlabeled}`"
        raise UserError(
            f"{source.origin}: one image only in class {listed(single)}; a class needs one to "
            "train and one to hold out: add images, or remove the class"
            + (captions if len(single) > SHOWN and source.unlabeled else "")
        )
