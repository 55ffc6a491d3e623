"""Format durations, sizes, counts and times for people, and parse times."""

from __future__ import annotations

from datetime import UTC, datetime

from humanize import intcomma

from ops.core.messages import Message, say


def duration(seconds: float | None) -> Message:  # noqa: PLR0911  # one for each unit
    """Format a duration in the unit that fits: `850 ms`, `4.2 s`, `12 min`, `26.5 h`, `3.0 days`."""
    if seconds is None:
        return say("not reached")
    seconds = float(seconds)  # a whole number too is written with a language's own decimal sign
    if seconds < 1:
        return say("{value:.0f} ms", value=seconds * 1000) if seconds else say("0 s")
    if seconds < 10:
        return say("{value:.1f} s", value=seconds)
    if seconds < 120:
        return say("{value:.0f} s", value=seconds)
    if seconds < 2 * 3600:
        return say("{value:.0f} min", value=seconds / 60)
    if seconds < 72 * 3600:
        return say("{value:.1f} h", value=seconds / 3600)
    return say("{value:.1f} days", value=seconds / 86400)


def size(value: int) -> Message:
    """Format a number of bytes in binary units, such as `1.2 MiB`. Not humanize's: the number is translated too."""
    number = float(value)
    if value < 1024:
        return say("{number} B", number=value)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return say("{number:.1f} {unit}", number=number, unit=unit)
    return say("{number:.1f} {unit}", number=number / 1024, unit="TiB")


def count(value: int | None) -> str:
    """Return a number with a narrow space between thousands; a dash for None."""
    return "\u2013" if value is None else intcomma(value).replace(",", "\u202f")


def utc(moment: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def parse_utc(text: str) -> datetime:
    """Return an ISO 8601 time in UTC. A time without an offset is UTC.

    Raises:
        ValueError: the text is not a time.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
