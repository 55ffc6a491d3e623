"""Schedule backups: a timer that makes them, one that checks their age, and a report when either fails."""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from typing import Any

from pyinfra.api.operation import operation
from pyinfra.context import host

from host.operations import FileState, ShellLines, place, placing, text_digest
from host.templates import render

UNITS = "/etc/systemd/system"
BACKUP = "ancla-backup"
FRESHNESS = "ancla-freshness"
FAILED = "ancla-failed@.service"
TIMERS = (f"{BACKUP}.timer", f"{FRESHNESS}.timer")
_ZONE = re.compile(r"\s(UTC|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+)$")


def build_units(schedule: str) -> dict[str, str]:
    """Return the units by name. `schedule` is an OnCalendar expression; without a time zone it is UTC."""
    calendar = schedule if _ZONE.search(schedule) else f"{schedule} UTC"
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
        f"{BACKUP}.timer": render("backup.timer", what=backup, calendar=calendar, jitter="3min"),
        f"{FRESHNESS}.service": render(
            "backup.service", unit=f"{FRESHNESS}.service", what=freshness, arguments="backup fresh", limit="15min"
        ),
        f"{FRESHNESS}.timer": render("backup.timer", what=freshness, calendar="hourly", jitter="5min"),
    }


def timers(schedule: str | None, destinations: int) -> None:
    """Ensure that the timers run by `schedule`, or that there are none without a destination or schedule."""
    if schedule is None or destinations == 0:
        _absent(name="timers: none, nothing is backed up")
        return
    place(
        name="timers: rotation of the audit log",
        dest="/etc/logrotate.d/ancla",
        content=render("audit.logrotate"),
    )
    _present(name="timers: backup and freshness", schedule=schedule)


@operation()
def _present(schedule: str) -> Generator[Any, Any, None]:
    units = build_units(schedule)
    states = host.get_fact(ShellLines, script=f"systemctl is-enabled {' '.join(TIMERS)} 2>&1 || true")
    active = host.get_fact(ShellLines, script=f"systemctl is-active {' '.join(TIMERS)} || true")
    files = {name: host.get_fact(FileState, path=f"{UNITS}/{name}") for name in units}
    stale = [name for name, text in units.items() if files[name] != f"644 root:root {text_digest(text)}"]
    if not stale and states == ["enabled"] * len(TIMERS) and active == ["active"] * len(TIMERS):
        host.noop("both timers run by this schedule")
        return
    # Before anything is placed: a schedule that systemd does not understand leaves the former one running.
    (calendar,) = re.findall(r"^OnCalendar=(.*)$", units[f"{BACKUP}.timer"], re.MULTILINE)
    complaint = f"backup.schedule: {schedule} is no OnCalendar expression of systemd (man 7 systemd.time)"
    yield (
        f"systemd-analyze calendar {shlex.quote(calendar)} >/dev/null 2>&1 || "
        f"{{ echo {shlex.quote(complaint)} >&2; exit 1; }}"
    )
    for name in stale:
        yield from placing(f"{UNITS}/{name}", units[name])
    yield "systemctl daemon-reload"
    yield f"systemctl enable --quiet {' '.join(TIMERS)}"
    # a timer that runs keeps its former schedule until it is started again; the services they started continue
    yield f"systemctl restart {' '.join(TIMERS)}"


@operation()
def _absent() -> Generator[str, Any, None]:
    units = [f"{UNITS}/{name}" for name in build_units("daily")]
    if not host.get_fact(ShellLines, script=f"ls -d {' '.join(units)} 2>/dev/null || true"):
        host.noop("there are none")
        return
    yield f"systemctl disable --quiet --now {' '.join(TIMERS)} || true"
    yield f"rm -f {' '.join(units)} && systemctl daemon-reload"
