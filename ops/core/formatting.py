"""Format durations, sizes and counts for people."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.core.messages import Message, say


def duration(seconds: float | None) -> Message:  # noqa: PLR0911  # one for each unit
    """Format a duration in a unit that fits."""
    if seconds is None:
        return say("not reached")
    if seconds < 1:
        return say("{value:.0f} ms", value=seconds * 1000) if seconds else say("0 s")
    if seconds < 10:
        return say("{value:.1f} s", value=seconds)
    if seconds < 120:
        return say("{value:.0f} s", value=seconds)
    if seconds < 2 * 3600:
        return say("{value:.0f} min", value=seconds / 60)
    if seconds < 72 * 3600:
        return say("{value:.0f} h", value=seconds / 3600)
    return say("{value:.1f} days", value=seconds / 86400)


def size(value: int) -> Message:
    """Format a number of bytes in a unit that fits."""
    number = float(value)
    if value < 1024:
        return say("{number} B", number=value)
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return say("{number:.1f} {unit}", number=number, unit=unit)
    return say("{number:.1f} {unit}", number=number / 1024, unit="GiB")


def count(value: int | None) -> str:
    """Format a number with thousands separators; a dash for None."""
    return "\u2013" if value is None else f"{value:,}".replace(",", "\u202f")


def utc(moment: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
