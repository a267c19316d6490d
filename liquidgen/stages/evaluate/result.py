"""The result of an evaluation, and the lines that show it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liquidgen.score_names import (
    CLASS_ACCURACY,
    COPIED,
    NOISE,
    RECONSTRUCTION,
    TELLS_NOISE,
    real_name,
)
from liquidgen.stages.evaluate.intervals import Interval, interval
from liquidgen.utils.files import write_json

INCEPTION = "inception"  # only its distances are called FID and KID
FEATURES = {  # in quotes; another network is quoted by its name
    "builtin": "LiquidGen's builtin features",
    "dinov2": "DINOv2 ViT-L/14 features",
    "efficientnet_lite0": "EfficientNet-Lite0 features",
    INCEPTION: "torch-fidelity Inception",
}


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Attributes:
        values: Scores by name.
        intervals: 95 % intervals of the scores of samples, by name.
        protocol: Conditions under which scores are comparable.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]
    protocol: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write everything as JSON; DVC and MLflow compare the values only."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            {
                **self.values,
                "intervals": self.intervals,
                "quotes": self.quotes(),
                "protocol": self.protocol,
            },
        )

    def summary(self) -> str:
        """Return the main scores beside those of real images and noise as one line.

        Those that cannot tell noise from real images come last.
        """
        # covariances of fewer images than features are singular: their distance is mostly bias
        few = self.protocol["num_compared"] <= self.protocol["num_features"]
        main = ("fd_pca" if few else "fd", "kid", CLASS_ACCURACY)
        names = [name for name in main if name in self.values]
        names.sort(key=lambda name: not self.values[name + TELLS_NOISE])
        parts = [
            f"{self._with_interval(name)} (real images {self.values[real_name(name)]:.4g}, noise "
            f"{self.values[NOISE + name]:.4g})"
            for name in names
        ]
        parts.append(f"{self._images()}, features of {self.protocol['feature_network']}")
        if self.has_copies:
            holdout = self.values[RECONSTRUCTION + COPIED]
            parts.append(
                f"{self._with_interval(COPIED)} (held-out images {holdout:.4g}): some samples copy "
                "training images, look at neighbors.png"
            )
        if blind := self.blind:
            count = self.protocol["num_compared"]
            parts.append(f"with {count} images these cannot tell noise from real images: {blind}")
        return ", ".join(parts)

    @property
    def has_copies(self) -> bool:
        """Whether more samples seem to be copies than chance gives to held-out images."""
        low, _ = self.intervals[COPIED]
        _, high = interval(
            COPIED, self.values[RECONSTRUCTION + COPIED], (), self.protocol["num_reference"]
        )
        return low > high

    @property
    def blind(self) -> str:
        """Names of the scores that cannot tell noise from real images."""
        told = {name: value for name, value in self.values.items() if name.endswith(TELLS_NOISE)}
        return ", ".join(
            name.removesuffix(TELLS_NOISE) for name, value in told.items() if not value
        )

    def quotes(self) -> list[str]:
        """Return the distances with all that another needs to compare them, a line for each."""
        network, sampling = self.protocol["feature_network"], self.protocol["sampling"]
        dtype = sampling.get("dtype", "float32")  # earlier samples do not say it
        names = ("FID", "KID") if network == INCEPTION else ("FD", "Kernel distance")
        conditions = (
            f"{FEATURES.get(network, f'features of {network}')}, {self._images()} of "
            f"{self.protocol['image_size']} px, {sampling['num_inference_steps']} "
            f"{sampling['solver']} steps, guidance {sampling['guidance_scale']:g}, "
            f"seed {sampling['seed']}" + ("" if dtype == "float32" else f", {dtype}")
        )
        return [
            f"{self._with_interval(key, name)} ({conditions})"
            for name, key in zip(names, ("fd", "kid"), strict=True)
        ]

    def _with_interval(self, name: str, title: str = "") -> str:
        low, high = self.intervals[name]
        title = title or name.replace("_", " ")
        return f"{title} {self.values[name]:.4g} [{low:.4g}, {high:.4g}]"

    def _images(self) -> str:
        compared, reference = self.protocol["num_compared"], self.protocol["num_reference"]
        return f"{compared:,} samples against {reference:,} held-out images"
