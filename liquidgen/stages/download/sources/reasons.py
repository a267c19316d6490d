"""Why a file or row gives no image; docs/your-images.md explains each to users."""

from enum import StrEnum


class Reason(StrEnum):
    """Reason, as `dataset.json` and `skipped.csv` name it."""

    # of files
    HIDDEN = "hidden"
    UNSUPPORTED_FILE = "unsupported_file"
    UNPRINTABLE_NAME = "unprintable_name"
    OUTSIDE_CLASS_FOLDERS = "outside_class_folders"
    NO_IMAGES = "no_images"  # of a class folder
    CIRCULAR_LINK = "circular_link"
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    # of files and rows
    EMPTY_FILE = "empty_file"
    TOO_LARGE = "too_large"
    # of rows
    NO_BYTES = "no_bytes"
    ONLY_PATH = "only_path"
    NO_LABEL = "no_label"
    OTHER_CLASS = "other_class"
