"""What a person sees of pgBackRest's backups and their drills."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ops.core import console
from ops.drill.evidence.document import Status
from ops.drill.kinds.pgbackrest_evidence import BackrestEvidence


def print_info(document: dict[str, Any]) -> None:
    """Print a stanza's backups as a table."""
    title = f"stanza {document['stanza']}: {document['status']}" + (
        ", a backup is running" if document["running"] else ""
    )
    columns = ("backup", "repo", "complete (UTC)", "took", "size", "stored", "WAL", "")
    table = Table(*columns, title=title, title_justify="left")
    for item in document["backups"]:
        begun, ended = (datetime.fromisoformat(item[key]) for key in ("started_at", "stopped_at"))
        wal = f"{item['wal_start']} … {item['wal_stop']}" if item["wal_start"] else "-"
        stored = "-" if item["stored"] is None else mib(item["stored"])
        mark = f"[red]{escape(item['not_counted'])}[/red]" if item["not_counted"] else ""
        took = f"{(ended - begun).total_seconds():.0f} s"
        table.add_row(
            f"{item['label']} {item['type']}",
            str(item["repo"]),
            f"{ended:%Y-%m-%d %H:%M:%S}",
            took,
            mib(item["size"]),
            stored,
            wal,
            mark,
        )
    console.out.print(table if document["backups"] else title)


def print_evidence(evidence: BackrestEvidence, file: Path) -> None:
    """Print a drill's questions with their answers."""
    colours = {Status.PASSED: "green", Status.FAILED: "red", Status.SKIPPED: "dim"}
    colour = "green" if evidence.verdict == "green" else "red"
    title = f"[bold {colour}]{evidence.verdict}[/bold {colour}] drill of {evidence.backup} of {evidence.stanza}"
    table = Table("", "check", "answer", title=title, title_justify="left")
    for item in evidence.checks:
        style = colours[item.status]
        told = "; ".join([item.answer, *item.problems[:3]])
        table.add_row(f"[{style}]{item.status}[/{style}]", item.question, escape(told))
    console.out.print(table)
    rto = "-" if evidence.rto_seconds is None else f"{evidence.rto_seconds:.0f} s"
    console.out.print(f"{evidence.rows} rows, RTO {rto}; proves {evidence.proves}; evidence: {file} and its page")


def mib(size: int) -> str:
    """Say a number of bytes in MiB."""
    return f"{size / 2**20:.1f} MiB"
