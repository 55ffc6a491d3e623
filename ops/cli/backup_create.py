"""`ops backup create`, `list`, `show` and `keygen`."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ops.backup.create import BackupJob, create
from ops.backup.report import FinishedBackup, create_on_droplet
from ops.cli.backup_options import BackupArgument, NameOption, OneNameOption, SpoolOption, StoreOption, one_name
from ops.cli.options import JsonOption, OutputsOption, ProgressOption, StackOption
from ops.core import console, formatting
from ops.core.console import Progress
from ops.core.errors import DatabaseLostError, DatabaseUnreachableError, OpsError
from ops.core.signing import Signer
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import backup_run
from ops.repository import catalog
from ops.repository.age import make_identity, recipient_of
from ops.repository.records import TableFingerprint, notes
from ops.sources.postgres.source import PostgresDatabase
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import backup_sets, destinations


@audited("backup create")
def create_command(
    name: NameOption = None,
    spool: SpoolOption = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Dump databases as one stream over one connection: slower, but needs no spool."),
    ] = False,
    again_after: Annotated[
        int,
        typer.Option(
            "--again-after",
            metavar="MINUTES",
            min=0,
            help="Try once more, so much later, if a database does not answer or breaks off (0: do not).",
        ),
    ] = 0,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dump, compress, encrypt and upload. A failed backup removes what it uploaded; other backup sets still run."""
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    made: list[dict[str, Any]] = []
    with backup_run(loaded, name, made) as failures, backup_sets.sources(loaded) as sources:
        wanted = backup_sets.chosen(loaded, name)
        left = _each(loaded, wanted, sources, spool, stream=stream, made=made, failures=failures)
        if left and again_after:
            console.step(f"{', '.join(left)}: once more in {again_after} minutes")
            time.sleep(again_after * 60)
            for chosen in left:
                del failures[chosen]
            _each(loaded, left, sources, spool, stream=stream, made=made, failures=failures)
        if as_json:
            console.print_json({"backups": made} | ({"failures": failures} if failures else {}))
            return
        for item in made:
            console.out.print(
                f"[green]complete[/green] {item['id']} of {escape(item['name'])}: {item['rows']} rows, "
                f"{formatting.size(item['bytes'])} in {item['objects']} objects",
            )


def _each(
    loaded: LoadedStack,
    wanted: Sequence[str],
    sources: Mapping[str, backup_sets.SourceMaker],
    spool: Path | None,
    *,
    stream: bool,
    made: list[dict[str, Any]],
    failures: dict[str, OpsError],
) -> list[str]:
    """Back up each of these sets; return those whose server went away meanwhile, as in a provider's maintenance."""
    lost: list[str] = []
    for chosen in wanted:
        try:
            made += _create(loaded, chosen, sources, spool, stream=stream)
        except Exception as error:  # noqa: BLE001  # a failure of one set must not stop the backup of the others
            failures[chosen] = error if isinstance(error, OpsError) else _defect(error)
            if _is_away(error):
                lost.append(chosen)
            if len(wanted) > 1 or chosen in lost:  # with a single set, the command's own error reports it
                console.step(f"{chosen}: {failures[chosen]}")
        note(stack=loaded.name, backup=" ".join(item["id"] for item in made))
    return lost


def _is_away(error: Exception) -> bool:
    """Return True if a server went away, or does not answer; one that refuses a login is there."""
    if isinstance(error, DatabaseUnreachableError):
        return "FATAL" not in str(error)
    return isinstance(error, DatabaseLostError)


def _defect(error: Exception) -> OpsError:
    """Describe an unexpected error by type and location only: its text may contain data that is being backed up."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return OpsError(f"{type(error).__name__} in {where}: a defect of Ancla; please report this message")


def _create(
    loaded: LoadedStack, name: str, sources: Mapping[str, backup_sets.SourceMaker], spool: Path | None, *, stream: bool
) -> list[dict[str, Any]]:
    """Back up one set, here or on the droplet that has its files. Return one report item per backup."""
    if backup_sets.elsewhere(loaded, name):
        return [made.model_dump(mode="json") for made in create_on_droplet(loaded, name)]
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
    if lost := [line for line in notes(manifest.source) if line.startswith("not kept")]:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        console.step(f"{lost[0]}{more}; see `ops backup show --name {name}`")
    made = FinishedBackup(
        id=manifest.id,
        name=name,
        kind=manifest.source.kind,
        snapshot_at=manifest.snapshot_at,
        objects=len(manifest.objects),
        bytes=manifest.stored_bytes,
        rows=manifest.source.rows,
        seconds=(manifest.finished_at - manifest.started_at).total_seconds(),
        stores=tuple(store.name for store in job.stores),
    )
    return [made.model_dump(mode="json")]


def list_command(
    name: NameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the backups, oldest first. One without a manifest is incomplete: it failed or is still running."""
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    found = catalog.entries(place, name)
    if not found:  # a set that the stack no longer names may still be stored
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
    table.add_column("backup", no_wrap=True, min_width=catalog.ID_LENGTH)  # users paste the id into other commands
    for column in ("name", "begun (UTC)", "state", "objects", "size"):
        table.add_column(column, overflow="fold")
    for entry in found:
        state = "[green]complete[/green]" if entry.complete else "[yellow]incomplete[/yellow]"
        begun = f"{entry.begun_at:%Y-%m-%d %H:%M}"
        table.add_row(entry.id, Text(entry.name), begun, state, str(entry.objects), formatting.size(entry.size))
    console.out.print(table if found else f"{place.name}: no backups yet; run `ops backup create`")


def show_command(
    backup: BackupArgument = catalog.LATEST,
    name: OneNameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the contents of one backup, from its manifest."""
    loaded = load_stack(stack, outputs)
    manifest = catalog.find(destinations.store(loaded, store), one_name(loaded, name), backup)
    if as_json:
        console.print_json(manifest.model_dump(mode="json"))
        return
    record = manifest.source
    console.out.print(
        f"[bold]{manifest.id}[/bold]  {escape(f'{manifest.environment}/{manifest.name}')}, {record.kind}, "
        f"as of {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    tables: tuple[TableFingerprint, ...] | None = getattr(record, "tables", None)
    if tables is not None:
        table = Table("table", "rows", "hash", "method")
        left_out: tuple[str, ...] = getattr(record, "left_out", ())
        for item in tables:
            rows = "left out" if item.table in left_out else formatting.count(item.rows)
            table.add_row(Text(item.table), rows, item.hash, item.method)
        console.out.print(table)
    objects = Table("object", "holds", "stored", "dumped", "sha256 as stored")
    for entry in manifest.objects:
        objects.add_row(
            Text(entry.key),
            Text(entry.holds),
            formatting.size(entry.size),
            formatting.size(entry.file_size),
            entry.sha256[:16],
        )
    console.out.print(objects)
    for line in notes(record):
        console.out.print(line, markup=False)
    console.out.print("to restore without Ancla: RESTORE.md in the backup's folder")


def keygen_command(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write the identity to (mode 0600).")],
) -> None:
    """Generate an age identity. Keep the file off the servers, and put the printed recipient in the stack file."""
    text = make_identity()
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise OpsError(f"{out}: {error.strerror}; choose another --out") from None
    console.err.print(f"{out}: keep a second copy in escrow: backups cannot be decrypted without it.")
    console.err.print("For `ancla:backup.recipients` of the stack file:")
    console.out.print(recipient_of(text))
