"""A schedule is roughly checked where it is written, so that nothing else can come into a unit of systemd by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.schedule import hours_of_week
from blueprint.settings.backup import BackupSettings
from blueprint.settings.database import MaintenanceSettings, ManagedPostgresql


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


def week(*hours: int, days: range | tuple[int, ...] = range(7)) -> set[int]:
    return {day * 24 + hour for day in days for hour in hours}


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("*-*-* 03:00:00", week(3)),
        ("3:30", week(3)),
        ("daily", week(0)),
        ("weekly UTC", {0}),
        ("hourly", set(range(168))),
        ("Mon..Fri 03:00", week(3, days=range(5))),
        ("Sat..Mon 03:00", week(3, days=(0, 5, 6))),
        ("Mon,Thu *-*-* 02:30", week(2, days=(0, 3))),
        ("*-*-* 00/6:15:00", week(0, 6, 12, 18)),
        ("*-*-* 8..10,22:15:00", week(8, 9, 10, 22)),
        ("*:*:0/10", set(range(168))),
        ("03:00 America/Mexico_City", week(9)),
        ("03:00 Europe/Berlin", week(1, 2)),
        ("Mon 01:00 Europe/Berlin", {0, 167}),
        ("03:30 Asia/Kolkata", week(21, 22)),
        ("03:00 Nowhere/Land", set()),
    ],
)
def test_a_schedule_starts_in_these_hours_of_the_week(schedule: str, hours: set[int]):
    assert hours_of_week(schedule) == hours


@pytest.mark.parametrize(
    ("schedule", "day", "hour", "free"),
    [
        ("*-*-* 03:00:00", "sunday", "07:00", None),
        ("*-*-* 03:00:00", "sunday", "05:00", None),
        ("*-*-* 03:00:00", "sunday", "04:00", "05:00"),
        ("*-*-* 03:00:00", "monday", "00:00", "05:00"),
        ("*-*-* 03:00:00", "monday", "23:00", None),
        ("Sun 23:00", "monday", "00:00", "01:00"),
        ("Tue 03:00", "sunday", "03:00", None),
        ("hourly", "sunday", "07:00", None),
    ],
)
def test_a_maintenance_that_would_break_a_backup_is_refused_with_an_hour_that_would_not(
    schedule: str, day: str, hour: str, free: str | None
):
    why = MaintenanceSettings.model_validate({"day": day, "hour": hour}).clash_with(schedule)
    assert (why is None) if free is None else (f'such as "{free}"' in str(why))


def test_the_two_are_compared_in_a_stack_file(tmp_path: Path):
    text = Path("Pulumi.staging.yaml").read_text()
    file = tmp_path / "Pulumi.staging.yaml"
    file.write_text(text)
    settings = load_stack_file(file)
    assert isinstance(settings.database, ManagedPostgresql)
    assert settings.database.maintenance is None
    assert (settings.maintenance.day, settings.maintenance.hour) == ("sunday", "07:00")
    file.write_text(text.replace("03:30:00", "08:00:00", 1))
    assert load_stack_file(file).maintenance.hour == "10:00", "nobody wrote a window, so it gives way"
    file.write_text(
        text.replace("  ancla:database:\n", '  ancla:database:\n    maintenance: { day: sunday, hour: "02:00" }\n')
    )
    with pytest.raises(SettingsError, match=r"database\.maintenance: may begin from 02:00"):
        load_stack_file(file)
