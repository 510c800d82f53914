"""What the pipeline's own result objects say: read from attributes or from the keys of a mapping."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

_MISSING: Any = object()
_ADDRESS_TYPES = ("HttpUrl", "AnyUrl", "AnyHttpUrl", "Url", "URL")


def pick(source: object, *names: str) -> Any:
    """The first of these that the object has and that is not ``None``."""
    for name in names:
        if isinstance(source, Mapping):
            value = source.get(name, _MISSING)
        else:
            value = getattr(source, name, _MISSING)
        if value is not _MISSING and value is not None and not callable(value):
            return value
    return None


def text(value: object, *names: str) -> Any:
    """A text as it is; of an object, the first of these names that it has."""
    if value is None or isinstance(value, str):
        return value
    picked = pick(value, *names)
    return value if picked is None else picked


def address(value: object) -> Any:
    """Where a picture is: a text, an address object, or a result that has one."""
    if value is None or isinstance(value, str):
        return value
    if type(value).__name__ in _ADDRESS_TYPES:
        return str(value)
    found = pick(value, "image_url", "url", "output_url", "images", "urls", "outputs")
    if isinstance(found, (list, tuple)) and found:
        found = found[0]
    if found is None or isinstance(found, str):
        return found
    return address(found) if found is not value else None


def issues(value: object) -> Any:
    """A list of texts."""
    if value is None:
        return None
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [one if isinstance(one, str) else str(text(one, "description", "text", "message")) for one in value]
    return value


def whole(value: object) -> Any:
    """Milliseconds as the service wants them: whole. Anything but a number stays as it is."""
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    return value


def words(error: object) -> Any:
    """An error in words; an exception with its type, since its text alone often says nothing."""
    if isinstance(error, BaseException):
        said = str(error)
        return f"{type(error).__name__}: {said}" if said else type(error).__name__
    return error


def timestamp(value: object) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).isoformat()
    return value


def for_json(value: object) -> Any:
    """What ``json`` cannot write by itself, where there is one obvious way to write it."""
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, PurePath)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    for method in ("model_dump", "item", "tolist"):  # pydantic, numpy
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
