"""Reports the length of a training: steps, time, and whether real images need more epochs."""

import logging
import math
import time

from PIL.Image import Image
from tqdm.auto import tqdm

from liquidgen.stages.train.run_state import Training

logger = logging.getLogger(__name__)

# Images that nano has to see, repetitions included, until objects are recognized: 8000 steps on 900
# photographs of flowers in five classes (docs/your-images.md).
ENOUGH_IMAGES = 256_000
FAR_BELOW = 0.5  # of ENOUGH_IMAGES: where the warning begins
# Passes beyond which a small set is copied rather than learned: after 130 passes over 1000 emoji,
# mirrored, 2% of the samples were copies, after 167 over 200 half, and after 160 over 200 with
# their variants most (docs/your-images.md).
MAX_EPOCHS = 150


class LengthReport:
    """A callback that prints how many steps a training makes, and how long they take here.

    It warns at the first point of the loss curve, and prints at the second, which shows the rate:
    the time before the first includes compiling.

    Args:
        training: The training.
        drawn: Whether the dataset is drawn by the pipeline; such images are learned sooner.
    """

    def __init__(self, training: Training, *, drawn: bool) -> None:
        self._training = training
        self._drawn = drawn
        self._first: tuple[int, float] | None = None  # step and time of the first point
        self._is_done = False

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Warn at the first point of the training loss, and print at the second."""
        if self._is_done or "loss" not in metrics:
            return
        now = time.perf_counter()
        if self._first is None:
            self._first = step, now
            if advice := length_advice(self._training, drawn=self._drawn):
                logger.warning(advice)
            return
        first_step, first_time = self._first
        self._is_done = True
        tqdm.write(length_line(self._training, step, (now - first_time) / (step - first_step)))

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Ignore an image."""


def length_line(training: Training, step: int, seconds_per_step: float) -> str:
    """Return a line with the number of steps, and the time that those after `step` take."""
    settings = training.settings
    left = tqdm.format_interval((training.last_step - step) * seconds_per_step)
    epochs = "1 epoch" if settings.num_epochs == 1 else f"{settings.num_epochs} epochs"
    return (
        f"train: {training.last_step:,} steps of {settings.batch_size} images"
        f" ({epochs} of {len(training.dataset):,}); about {left}"
        f" left at {settings.batch_size / seconds_per_step:,.0f} images per second"
    )


def length_advice(training: Training, *, drawn: bool) -> str | None:
    """Return what to set if the model sees too few real images for objects; None if enough."""
    settings = training.settings
    seen = training.last_step * settings.batch_size
    if drawn or seen >= FAR_BELOW * ENOUGH_IMAGES:
        return None
    epochs = math.ceil(settings.num_epochs * ENOUGH_IMAGES / seen)
    if epochs > MAX_EPOCHS:
        augment = ", or augmented ones (encode.flip, encode.augmented_variants: 3)"
        is_augmented = training.dataset.contract.augmented_variants > 0
        return (
            f"{len(training.dataset):,} training images are few: the {epochs:,} epochs in which "
            f"objects are learned would copy them; use more images{'' if is_augmented else augment}"
        )
    # guidance contrasts classes
    guidance = ", with sample.guidance_scale: 4" if training.dataset.num_classes else ""
    return (
        f"the model will see {seen:,} images, repetitions included: enough for colors and textures,"
        f" while objects take about {ENOUGH_IMAGES:,} (train.num_epochs: {epochs}{guidance})"
    )
