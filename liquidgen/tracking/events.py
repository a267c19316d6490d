"""What a line of a journal may hold."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

Event = dict[str, Any]
_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def _plain(name: str) -> str:
    # a forged line must not send other files than those of the run
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise ValueError("no plain name of a file")
    return name


_FileName = Annotated[str, AfterValidator(_plain)]


class _Event(BaseModel):
    model_config = ConfigDict(strict=True)
    time: _Integer


class _Metrics(_Event):
    metrics: dict[str, float]
    step: _Integer


class _Parent(_Event):
    parent: dict[str, float]
    step: _Integer


class _Image(_Event):
    image: _FileName
    key: str
    step: _Integer
    on_parent: bool


class _Artifact(_Event):
    artifact: _FileName


class _Dataset(_Event):
    dataset: str
    digest: str
    source: str


class _End(_Event):
    end: str
    reason: str = ""


_LINE: TypeAdapter = TypeAdapter(_Metrics | _Parent | _Image | _Artifact | _Dataset | _End)


def parse_event(line: bytes) -> Event | None:
    """Return the event of a line, with the keys of its kind alone; None if it is no event."""
    try:
        return _LINE.validate_python(json.loads(line)).model_dump()
    except (ValueError, RecursionError):
        return None
