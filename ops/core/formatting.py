"""Format durations, sizes, counts and times for people, and parse times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from humanize import intcomma, naturalsize


def duration(seconds: float | None, translate: Callable[[str], str] = str) -> str:
    """Return a duration in the unit that fits: `850 ms`, `4.2 s`, `12 min`, `26.5 h`, `3.0 days`."""
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
    hours = seconds / 3600
    return translate(f"{round(hours, 1):g} h" if hours < 72 else f"{hours / 24:.1f} days")


def size(value: int) -> str:
    """Return a number of bytes in binary units, such as `1.2 MiB`."""
    return f"{value} B" if value < 1024 else naturalsize(value, binary=True, format="%.1f")


def count(value: int | None) -> str:
    """Return a number with a narrow space between thousands; a dash for None."""
    return "\u2013" if value is None else intcomma(value).replace(",", "\u202f")


def utc(moment: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def parse_utc(text: str) -> datetime:
    """Return an ISO 8601 time in UTC. A time without an offset is UTC.

    Raises:
        ValueError: the text is not a time.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
