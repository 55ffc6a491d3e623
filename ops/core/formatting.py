"""Format durations, sizes and counts for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


def duration(seconds: float | None, translate: Callable[[str], str] = str) -> str:
    """Format a duration for people."""
    if seconds is None:
        return translate("not reached")
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 10:
        return translate(f"{seconds:.1f} s")
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else translate(f"{seconds / 86400:.1f} days")


def size(value: int) -> str:
    """Format a number of bytes for people."""
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def count(value: int | None) -> str:
    """Format a number with thousands separators; a dash for None."""
    return "\u2013" if value is None else f"{value:,}".replace(",", "\u202f")


def utc(moment: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
