"""`ops watch` and `ops audit`: alerts and the audit log."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ops.cli.options import JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.errors import OpsError, VerdictError
from ops.monitoring import audit
from ops.monitoring.alerts import watching
from ops.monitoring.heartbeat import ping
from ops.monitoring.notify import send, shut_to_droplets
from ops.monitoring.state import warn
from ops.monitoring.units import BACKUP_UNIT, FRESHNESS_UNIT
from ops.stack.outputs import load_stack

watch_app = typer.Typer(no_args_is_help=True)
audit_app = typer.Typer(no_args_is_help=True)

REPORTED_BY_OPS = timedelta(minutes=10)
"""Do not report a failed unit if ops raised an alert about it within this time: that alert names the cause."""
KINDS = {BACKUP_UNIT: ("backup/",), FRESHNESS_UNIT: ("fresh/", "store/")}

LogOption = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Audit log to read (default: this host's).")
]


@watch_app.command("alerts")
def watch_alerts(stack: StackOption = None, outputs: OutputsOption = None, as_json: JsonOption = False) -> None:
    """List the active alerts recorded on this host. Exits 3 if there is one."""
    loaded = load_stack(stack, outputs)
    with watching(loaded) as watch:
        alerts = watch.state.alerts
    if as_json:
        console.print_json({"alerts": [{"about": key, **a.model_dump(mode="json")} for key, a in alerts.items()]})
    else:
        for alert in alerts.values():
            since = f"{alert.since:%Y-%m-%d %H:%M} UTC"
            console.out.print(f"[red]since {since}[/red] {escape(alert.text)} (docs/runbooks/{alert.runbook}.md)")
        if not alerts:
            console.out.print("no active alerts")
    if alerts:
        raise VerdictError(f"{loaded.name}: {len(alerts)} active alerts: {', '.join(alerts)}")


@watch_app.command("failed")
def watch_failed(
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="systemd unit.")],
    stack: StackOption = None,
    outputs: OutputsOption = None,
) -> None:
    """Report a failed systemd unit, unless ops has just reported the cause. Called by systemd's OnFailure."""
    loaded = load_stack(stack, outputs)
    with watching(loaded) as watch:
        young = [
            key
            for key, alert in watch.state.alerts.items()
            if key.startswith(KINDS.get(unit, ())) and watch.now - alert.seen_at < REPORTED_BY_OPS
        ]
        busy = watch.state.busy_at
        if unit == BACKUP_UNIT and busy is not None and watch.now - busy < REPORTED_BY_OPS:
            return
        if not young:
            result = os.environ.get("MONITOR_SERVICE_RESULT", "failed")
            runbook = "backup-missing" if unit == FRESHNESS_UNIT else "backup-failed"
            watch.raise_alert(f"unit/{unit}", f"{unit} failed ({result}); see `journalctl -u {unit}`", runbook)


@watch_app.command("test")
def watch_test(stack: StackOption = None, outputs: OutputsOption = None) -> None:
    """Send a test message to every address of secrets.notifications, and ping secrets.heartbeat. Exits 1 on failure."""
    loaded = load_stack(stack, outputs)
    addresses, beat = loaded.secrets.notifications, loaded.secrets.heartbeat
    where = f"{loaded.outputs.project} {loaded.outputs.environment}"
    for warning in shut_to_droplets(addresses):
        warn(warning)
    body = f"Sent at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `ops watch test`. Nothing is wrong."
    accepted = send(addresses, title=f"[ancla {where}] test", body=body)
    answered = ping(beat) if beat is not None else None
    beats = {None: "no heartbeat is configured", True: "the heartbeat answers", False: "the heartbeat does not answer"}
    console.out.print(f"{accepted} of {len(addresses)} notifications were accepted; {beats[answered]}")
    if accepted < len(addresses) or answered is False:
        raise OpsError(f"{loaded.name}: not every address works; check secrets.notifications and secrets.heartbeat")


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option("--last", min=1, metavar="N", help="Number of lines.")] = 50,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last lines of this host's audit log, oldest first."""
    entries = _read(log or audit.log_path()).entries[-last:]
    if as_json:
        console.print_json(entries)
        return
    shown = ("number", "at", "user", "host", "verb", "result")
    for entry in entries:
        number, at, user, computer, verb, result = (entry.get(key, "?") for key in shown)
        more = {key: value for key, value in entry.items() if key not in {*shown, "previous", "digest"}}
        facts = " ".join(f"{key}={value}" for key, value in more.items())
        line = f"{number} {at} {user}@{computer} {verb}: {result} {facts}"
        console.out.print(escape(line.rstrip()))
    if not entries:
        console.out.print("the audit log is empty")


@audit_app.command("verify")
def audit_verify(log: LogOption = None, as_json: JsonOption = False) -> None:
    """Verify the hash chain of the audit log. Exits 3 if a line was changed, removed or inserted."""
    path = log or audit.log_path()
    found = _read(path)
    if as_json:
        console.print_json(
            {"log": str(path), "lines": len(found.entries), "torn": found.torn, "problems": found.problems}
        )
    elif not found.problems:
        torn = f"; {found.torn} incomplete, from a full disk or a kill" if found.torn else ""
        console.out.print(f"[green]intact[/green] {path}: {len(found.entries)} lines{torn}")
    if found.problems:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise VerdictError(f"{path.parent}: the audit log was changed: {found.problems[0]}{more}")


def _read(path: Path) -> audit.Audit:
    try:
        if not path.exists() and path != audit.log_path():
            raise OpsError(f"{path}: no such file; omit --log to read this host's")
        return audit.read(path)
    except OSError as error:
        raise OpsError(f"{path}: cannot be read: {error.strerror}; on the droplet use sudo") from None
