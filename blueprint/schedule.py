"""Say in which hours of a week a schedule of systemd starts something: enough to keep two things apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEK = 168
"""Hours; the first begins on Monday at 00:00 UTC."""

_EVERY_HOUR = ("minutely", "hourly")
_WEEKDAYS = re.compile(r"[A-Z][a-z]+((,|\.\.)[A-Z][a-z]+)*")


def hours_of_week(schedule: str) -> set[int]:
    """Return the hours, UTC, in which an OnCalendar expression may start something; a date counts as any.

    Both halves of a year count where a zone has summer time. An unknown zone gives no hour: systemd refuses it.
    """
    words = schedule.split()
    days, hours = set(range(7)), {0}
    offsets = {timedelta(0)}
    for number, word in enumerate(words):
        if word in _EVERY_HOUR:
            hours = set(range(24))
        elif word == "weekly":
            days = {0}
        elif ":" in word:
            hours = set(_numbers(word.partition(":")[0], 24))
        elif number == 0 and word[:3].lower() in {day[:3] for day in DAYS} and _WEEKDAYS.fullmatch(word):
            days = set(_weekdays(word))
        elif number and word[0].isalpha():
            try:
                zone = ZoneInfo(word)
            except (ValueError, OSError, KeyError):
                return set()
            offsets = {zone.utcoffset(datetime(2026, month, 15)) or timedelta(0) for month in (1, 7)}  # noqa: DTZ001 - a time of that zone
    local = [timedelta(hours=day * 24 + hour) for day in days for hour in hours]
    ends = (timedelta(0), timedelta(minutes=59))
    return {
        int((start - offset + end) / timedelta(hours=1) // 1) % WEEK
        for start in local
        for offset in offsets
        for end in ends
    }


def _weekdays(text: str) -> Iterator[int]:
    short = [day[:3] for day in DAYS]
    for part in text.lower().split(","):
        first, _, last = part.partition("..")
        begin = short.index(first[:3])
        end = short.index((last or first)[:3])
        yield from (day % 7 for day in range(begin, begin + (end - begin) % 7 + 1))


def _numbers(text: str, limit: int) -> Iterator[int]:
    """Yield the numbers of one field below `limit`: `*`, `6`, `0/6`, `8..17`, and lists of them."""
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dots, last = span.partition("..")
        begin = 0 if first in ("*", "") else int(first)
        end = int(last) if dots else (limit - 1 if step or first == "*" else begin)
        yield from range(begin, min(end, limit - 1) + 1, int(step or 1) or 1)
