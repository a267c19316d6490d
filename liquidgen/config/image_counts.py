"""How many images an evaluation needs, which is known before the training."""

from liquidgen.config.settings import EvaluateSettings


def too_few_images(
    settings: EvaluateSettings, *, samples: int, train: int, holdout: int
) -> str | None:
    """Return all that is wrong if there are too few images for the settings; None if enough.

    Args:
        settings: Settings of the stage evaluate.
        samples: Number of samples of the model.
        train: Number of training images.
        holdout: Number of held-out images.
    """
    least = min(samples, train, holdout)
    limits = {"kid_subset_size": least, "nearest_k": least - 1}
    beyond = [
        f"evaluate.{key} is {value}, but may be at most {limit}"
        for key, limit in limits.items()
        if (value := getattr(settings, key)) > limit
    ]
    if not beyond:
        return None
    return (
        f"evaluate: {samples} samples, {train} training and {holdout} holdout images are too "
        f"few: {'; '.join(beyond)}; lower them, or raise sample.num_images or the dataset's "
        "holdout_fraction"
    )
