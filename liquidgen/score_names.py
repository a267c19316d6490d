"""Names of scores in metrics/evaluate.json, for the stage that writes it and for its readers."""

REAL, NOISE, RECONSTRUCTION = "train_", "noise_", "reconstruction_"  # in the place of samples
TELLS_NOISE = "_tells_noise"  # 1 or 0, after the name of a score
DEVIATION = "_std"  # between subsets, after the name of a score
CLASS_ACCURACY = "class_accuracy"
REAL_ACCURACY = "probe_accuracy"  # class_accuracy of real images
COPIED = "copied_share"  # real images in its place are the reconstructed holdout
LOWER_IS_BETTER = ("fd", "fd_pca", "kid")


def real_name(name: str) -> str:
    """Return the name of what real images get for a score of samples."""
    return REAL_ACCURACY if name == CLASS_ACCURACY else REAL + name
