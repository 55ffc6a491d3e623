"""`ops backup` and `ops restore`."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ops.backup.create import BackupJob, create
from ops.cli.backup_options import BackupArgument, NameOption, OneNameOption, SpoolOption, StoreOption, one_name
from ops.cli.options import JsonOption, OutputsOption, ProgressOption, StackOption
from ops.core import console, formatting
from ops.core.console import Progress
from ops.core.errors import OpsError
from ops.core.signing import Signer
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import backup_run
from ops.repository import catalog
from ops.repository.age import make_identity, recipient_of
from ops.repository.records import PostgresRecord, SqliteRecord
from ops.sources.postgres.source import PostgresDatabase
from ops.stack.outputs import LoadedStack, load_stack
from ops.stack.remote_ops import create_there
from ops.targets import backup_sets, destinations


@audited("backup create")
def create_command(
    name: NameOption = None,
    spool: SpoolOption = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Databases as one stream over one connection: slower, and needs no spool.")
    ] = False,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dump, compress and upload; the manifest last. What fails leaves nothing in the bucket, and hinders no other."""
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    made: list[dict[str, Any]] = []
    with backup_run(loaded, name, made) as failures, backup_sets.sources(loaded) as sources:
        wanted = backup_sets.chosen(loaded, name)
        for chosen in wanted:
            try:
                made += _create(loaded, chosen, sources, spool, stream=stream)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one set, the others are backed up
                failures[chosen] = error if isinstance(error, OpsError) else _defect(error)
                if len(wanted) > 1:  # of one alone the command's end tells
                    console.step(f"{chosen}: {failures[chosen]}")
            note(stack=loaded.name, backup=" ".join(item["id"] for item in made))
        if as_json:
            console.print_json({"backups": made} | ({"failures": failures} if failures else {}))
            return
        for item in made:
            console.out.print(
                f"[green]complete[/green] {item['id']} of {item['name']}: {item['rows']} rows, "
                f"{formatting.size(item['bytes'])} in {item['objects']} objects",
            )


def _defect(error: Exception) -> OpsError:
    """Say what nobody foresaw by its type and place alone: its text may have a piece of what is backed up."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return OpsError(f"{type(error).__name__} in {where}: a defect of Ancla; please report it with these words")


def _create(
    loaded: LoadedStack, name: str, sources: Mapping[str, backup_sets.SourceMaker], spool: Path | None, *, stream: bool
) -> list[dict[str, Any]]:
    """Back one set up, here or where its files are; return the report, one item a backup."""
    if backup_sets.elsewhere(loaded, name):
        return create_there(loaded, name, console.step)
    settings, key = loaded.outputs.backup, loaded.secrets.backup_signing_key
    source = sources[name]()
    job = BackupJob(
        environment=loaded.outputs.environment,
        project=loaded.outputs.project,
        name=name,
        source=replace(source, stream=stream) if isinstance(source, PostgresDatabase) else source,
        stores=tuple(destinations.stores(loaded).values()),
        recipients=tuple(settings.recipients),
        signer=Signer(key) if key else None,
        level=settings.level,
        spool=spool,
    )
    manifest = create(job, console.step, console.progress)
    return [
        {
            "id": manifest.id,
            "name": name,
            "kind": manifest.source.kind,
            "snapshot_at": manifest.snapshot_at.isoformat(),
            "objects": len(manifest.objects),
            "bytes": manifest.stored_bytes,
            "rows": manifest.source.rows,
            "seconds": (manifest.finished_at - manifest.started_at).total_seconds(),
            "stores": [store.name for store in job.stores],
        }
    ]


def list_command(
    name: NameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the restore points, oldest first. Without a manifest one is incomplete: it failed, or is being made."""
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    found = catalog.entries(place, name)
    if not found:  # what the stack no longer names may still be stored
        backup_sets.chosen(loaded, name)
    if as_json:
        console.print_json(
            {
                "store": place.name,
                "backups": [
                    {
                        "id": entry.id,
                        "name": entry.name,
                        "begun_at": entry.begun_at.isoformat(),
                        "complete": entry.complete,
                        "objects": entry.objects,
                        "bytes": entry.size,
                    }
                    for entry in found
                ],
            }
        )
        return
    table = Table(title=place.name, title_justify="left", box=None, pad_edge=False)
    table.add_column("backup", no_wrap=True, min_width=catalog.ID_LENGTH)  # it is what other commands are given
    for column in ("name", "begun (UTC)", "state", "objects", "size"):
        table.add_column(column, overflow="fold")
    for entry in found:
        state = "[green]complete[/green]" if entry.complete else "[yellow]incomplete[/yellow]"
        begun = f"{entry.begun_at:%Y-%m-%d %H:%M}"
        table.add_row(entry.id, entry.name, begun, state, str(entry.objects), formatting.size(entry.size))
    console.out.print(table if found else f"{place.name}: no backups yet; run `ops backup create`")


def show_command(
    backup: BackupArgument = catalog.LATEST,
    name: OneNameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one restore point holds, by its manifest."""
    loaded = load_stack(stack, outputs)
    manifest = catalog.find(destinations.store(loaded, store), one_name(loaded, name), backup)
    if as_json:
        console.print_json(manifest.model_dump(mode="json"))
        return
    record = manifest.source
    console.out.print(
        f"[bold]{manifest.id}[/bold]  {manifest.environment}/{manifest.name}, {record.kind}, "
        f"as of {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    if isinstance(record, PostgresRecord | SqliteRecord):
        table = Table("table", "rows", "hash", "method")
        left_out = record.left_out if isinstance(record, PostgresRecord) else ()
        for item in record.tables:
            rows = "left out" if item.table in left_out else formatting.count(item.rows)
            table.add_row(item.table, rows, item.hash, item.method)
        console.out.print(table)
    objects = Table("object", "holds", "stored", "dumped", "sha256 as stored")
    for entry in manifest.objects:
        objects.add_row(
            entry.key, entry.holds, formatting.size(entry.size), formatting.size(entry.file_size), entry.sha256[:16]
        )
    console.out.print(objects)
    for title, field in (("may fail in a restore", "warnings"), ("not restored", "not_restored")):
        for line in getattr(record, field, ()):
            console.out.print(f"[yellow]{title}[/yellow]: {escape(line)}")
    for line in getattr(record, "not_compared", ()):
        console.out.print(f"not compared: {escape(line)}")
    console.out.print("by hand: RESTORE.md in its folder")


def keygen_command(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the identity goes (mode 0600).")],
) -> None:
    """Make an age identity: keep the file off the machines, and put the printed recipient in the stack file."""
    text = make_identity()
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise OpsError(f"{out}: {error.strerror}; choose another --out") from None
    console.err.print(f"{out}: keep a second copy in escrow: without it the backups are lost.")
    console.err.print("For `ancla:backup.recipients` of the stack file:")
    console.out.print(recipient_of(text))
