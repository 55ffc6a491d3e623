"""Sizes, durations and rates: text with a unit, compared as numbers, shown as it was written."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from blueprint.fields import Duration, Rate, Size

KINDS: tuple[type, ...] = (Size, Duration, Rate)


class Limits(BaseModel):
    size: Size = Size("512M")
    within: Duration = Duration("15m")
    rate: Rate | None = None


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Size, "1K", 1024),
        (Size, "512M", 512 * 1024**2),
        (Size, "20G", 20 * 1024**3),
        (Size, "2T", 2 * 1024**4),
        (Duration, "30s", 30),
        (Duration, "15m", 900),
        (Duration, "26h", 93_600),
        (Duration, "180d", 15_552_000),
        (Duration, "1y", 31_536_000),
        (Rate, "20r/s", 20),
        (Rate, "30r/m", 0.5),
    ],
)
def test_text_with_a_unit_is_a_number(kind: type, text: str, value: float):
    parsed = TypeAdapter[object](kind).validate_python(text)

    assert parsed == value
    assert str(parsed) == text


def test_they_compare_as_numbers():
    assert Size("1024M") == Size("1G") < Size("2G")
    assert Duration("60m") == Duration("1h") < Duration("1d")
    assert Rate("60r/m") == Rate("1r/s") < Rate("2r/s")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((Size, wrong) for wrong in ("20", "20GB", "1.5G", "0G", "-1G", "20g", " 20G", "20G\n", "", 20, None, True)),
        *((Duration, wrong) for wrong in ("30", "30 s", "1w", "0s", "1h30m", "007m", 30, None, [])),
        *((Rate, wrong) for wrong in ("20", "20/s", "20r/h", "0r/s", "1.5r/s", 20, None)),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(kind: type, wrong: object):
    with pytest.raises(ValidationError, match="write a whole number and") as caught:
        TypeAdapter[object](kind).validate_python(wrong)

    assert [error["type"] for error in caught.value.errors()] == ["value_error"]


@pytest.mark.parametrize("kind", KINDS)
def test_editors_get_the_pattern(kind: type):
    schema = TypeAdapter[object](kind).json_schema()

    assert schema["type"] == "string"
    assert re.search(schema["pattern"], {Size: "20G", Duration: "30s", Rate: "10r/m"}[kind])
    assert not re.search(schema["pattern"], "20")


def test_a_model_keeps_the_text():
    limits = Limits.model_validate({"size": "2G", "rate": "10r/m"})

    assert json.loads(limits.model_dump_json()) == {"size": "2G", "within": "15m", "rate": "10r/m"}
    assert limits.model_dump(mode="json") == {"size": "2G", "within": "15m", "rate": "10r/m"}
    assert Limits.model_validate(limits.model_dump()) == limits
    assert str(limits.model_copy(deep=True).size) == "2G"
    assert Limits.model_json_schema()["properties"]["within"]["default"] == "15m"
