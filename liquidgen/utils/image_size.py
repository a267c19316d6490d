"""The size of images: a number for squares, or HEIGHTxWIDTH."""

import re
from typing import Annotated

from pydantic import PlainValidator

LARGEST = 2**14  # px
OBLONG = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def sides(image_size: int | str) -> tuple[int, int]:
    """Return height and width in px.

    Raises:
        ValueError: It is neither a number nor HEIGHTxWIDTH.
    """
    if isinstance(image_size, int) and not isinstance(image_size, bool):
        return image_size, image_size
    if isinstance(image_size, str) and (match := OBLONG.fullmatch(image_size)):
        return int(match[1]), int(match[2])
    raise ValueError("must be a number of px, or HEIGHTxWIDTH, such as 64x96")


def _checked(image_size: int | str) -> int | str:
    height, width = sides(image_size)
    if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
        raise ValueError(f"must be from 1 to {LARGEST} px")
    if height == width and image_size != height:
        raise ValueError(f"write a square as {height}")
    return image_size


# one value, and one way to write it: DVC puts what params.yaml says into the names of folders
ImageSize = Annotated[int | str, PlainValidator(_checked)]
