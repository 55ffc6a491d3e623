"""Print pgBackRest's backups for a person."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ops.core import console
from ops.pgbackrest.report import StanzaReport


def print_info(report: StanzaReport) -> None:
    """Print a stanza's backups as a table."""
    title = f"stanza {report.stanza}: {report.status}{', a backup is running' if report.running else ''}"
    columns = ("backup", "repo", "complete (UTC)", "took", "size", "stored", "WAL", "")
    table = Table(*columns, title=Text(title), title_justify="left")
    for item in report.backups:
        table.add_row(
            f"{item.label} {item.type}",
            str(item.repo),
            f"{item.stopped_at:%Y-%m-%d %H:%M:%S}",
            f"{(item.stopped_at - item.started_at).total_seconds():.0f} s",
            mib(item.size),
            "-" if item.stored is None else mib(item.stored),
            f"{item.wal_start} … {item.wal_stop}" if item.wal_start else "-",
            Text(item.not_counted or "", style="red"),
        )
    console.out.print(table if report.backups else Text(title))


def mib(size: int) -> str:
    """Format a number of bytes in MiB."""
    return f"{size / 2**20:.1f} MiB"
