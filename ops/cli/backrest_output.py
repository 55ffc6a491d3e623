"""Print pgBackRest's backups and the results of their drills."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ops.core import console
from ops.core.formatting import duration, size
from ops.drill.evidence.document import Status
from ops.drill.kinds.pgbackrest_evidence import BackrestEvidence
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
            duration((item.stopped_at - item.started_at).total_seconds()),
            size(item.size),
            "-" if item.stored is None else size(item.stored),
            f"{item.wal_start} … {item.wal_stop}" if item.wal_start else "-",
            Text(item.not_counted or "", style="red"),
        )
    console.out.print(table if report.backups else Text(title))


def print_evidence(evidence: BackrestEvidence, file: Path) -> None:
    """Print the checks of a drill with their results."""
    colours = {Status.PASSED: "green", Status.FAILED: "red", Status.SKIPPED: "dim"}
    colour = "green" if evidence.verdict == "green" else "red"
    title = f"[bold {colour}]{evidence.verdict}[/bold {colour}] drill of {evidence.backup} of {evidence.stanza}"
    table = Table("", "check", "answer", title=title, title_justify="left")
    for item in evidence.checks:
        style = colours[item.status]
        text = "; ".join([item.answer, *item.problems[:3]])
        table.add_row(f"[{style}]{item.status}[/{style}]", item.question, escape(text))
    console.out.print(table)
    rto = duration(evidence.rto_seconds)
    console.out.print(
        f"{evidence.rows} rows, RTO {rto}; proves {evidence.proves}; evidence: {escape(str(file))} and its page"
    )
