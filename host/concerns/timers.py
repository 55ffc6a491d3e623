"""Schedule backups: a timer that makes them, one that checks their age, and a report when either fails."""

from __future__ import annotations

import re
import shlex

from blueprint.machine import BackupTimerSettings
from host.services import UNIT_FOLDER, Off, Service
from host.steps import File, Gone, Place, Step
from host.templates import render

BACKUP = "ancla-backup"
FRESHNESS = "ancla-freshness"
FAILED = "ancla-failed@.service"
TIMERS = (f"{BACKUP}.timer", f"{FRESHNESS}.timer")
_UNITS = (FAILED, f"{BACKUP}.service", f"{BACKUP}.timer", f"{FRESHNESS}.service", f"{FRESHNESS}.timer")
_ZONE = re.compile(r"\s(UTC|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+)$")


def _calendar(schedule: str) -> str:
    return schedule if _ZONE.search(schedule) else f"{schedule} UTC"


def build_units(schedule: str) -> dict[str, str]:
    """Return the units by name. `schedule` is an OnCalendar expression; without a time zone it is UTC."""
    backup, freshness = "make the backups of this environment", "is there a backup within the budget?"
    return {
        FAILED: render("failed.service"),
        f"{BACKUP}.service": render(
            "backup.service",
            unit=f"{BACKUP}.service",
            what=backup,
            arguments="backup create --again-after 30",
            limit="12h",
        ),
        f"{BACKUP}.timer": render("backup.timer", what=backup, calendar=_calendar(schedule), jitter="3min"),
        f"{FRESHNESS}.service": render(
            "backup.service", unit=f"{FRESHNESS}.service", what=freshness, arguments="backup fresh", limit="15min"
        ),
        f"{FRESHNESS}.timer": render("backup.timer", what=freshness, calendar="hourly", jitter="5min"),
    }


def ensure(settings: BackupTimerSettings) -> list[Step]:
    """Let both timers run by the schedule.

    A timer that runs keeps its former schedule until it is started again; the services they started continue.
    """
    complaint = f"backup.schedule: {settings.schedule} is no OnCalendar expression of systemd (man 7 systemd.time)"
    return [
        Place(
            name="timers: rotation of the audit log",
            items=(File(path="/etc/logrotate.d/ancla", content=render("audit.logrotate")),),
        ),
        Service(
            name="timers: backup and freshness",
            key="timers",
            units=TIMERS,
            items=tuple(
                File(path=f"{UNIT_FOLDER}{name}", content=text) for name, text in build_units(settings.schedule).items()
            ),
            # Before anything is placed: a schedule that systemd does not understand leaves the former one running.
            before=(
                f"systemd-analyze calendar {shlex.quote(_calendar(settings.schedule))} >/dev/null 2>&1 || "
                f"{{ echo {shlex.quote(complaint)} >&2; exit 1; }}"
            ),
        ),
    ]


def absent() -> list[Step]:
    """Switch both timers off: without a destination nothing is backed up."""
    return [
        Off(
            name="timers: none, nothing is backed up",
            key="timers",
            units=TIMERS,
            items=tuple(Gone(f"{UNIT_FOLDER}{name}") for name in _UNITS),
            keeps="and backups stay in their buckets, the audit log in /var/log/ancla",
        )
    ]
