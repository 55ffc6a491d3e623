"""A schedule is roughly checked where it is written, so that nothing else can come into a unit of systemd by it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from blueprint.backup import BackupSettings


@pytest.mark.parametrize(
    "schedule",
    [
        "*-*-* 03:00:00",
        "3:30",
        "daily",
        "weekly UTC",
        "Mon..Fri 03:00",
        "Mon,Thu *-*-* 02:30",
        "*-*-* 00/6:15:00 America/Mexico_City",
        "Sat *-*-1..7 18:00:00",
        "*-*~1 03:00",
        "*:*:0/10",
    ],
)
def test_what_systemd_understands_is_taken(schedule: str):
    assert BackupSettings(schedule=schedule).schedule == schedule


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        " ",
        "0 3 * * *",
        "every day",
        "25",
        "03:00\nExecStart=/bin/sh",
        "03:00\n",
        "daily; reboot",
        "$(reboot)",
        "%n",
    ],
)
def test_cron_and_what_is_no_schedule_at_all_is_refused(schedule: str):
    with pytest.raises(ValidationError):
        BackupSettings(schedule=schedule)
