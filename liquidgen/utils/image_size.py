"""The size of images: a number for squares, or HEIGHTxWIDTH."""

import re
from typing import Annotated

from pydantic import PlainValidator

LARGEST = 2**14  # px


def sides(image_size: int | str) -> tuple[int, int]:
    """Return height and width in px.

    Raises:
        ValueError: It is neither a number nor HEIGHTxWIDTH.
    """
    if isinstance(image_size, int) and not isinstance(image_size, bool):
        return image_size, image_size
    if isinstance(image_size, str) and (match := re.fullmatch(r"(\d{1,5})x(\d{1,5})", image_size)):
        return int(match[1]), int(match[2])
    raise ValueError("must be a number of px, or HEIGHTxWIDTH, such as 64x96")


def _checked(image_size: int | str) -> int | str:
    height, width = sides(image_size)
    if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
        raise ValueError(f"must be from 1 to {LARGEST} px")
    return height if height == width else image_size


# one value, because it is part of folder names, which DVC makes from params.yaml
ImageSize = Annotated[int | str, PlainValidator(_checked)]
