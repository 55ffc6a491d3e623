"""`ops restore --table`: what a backup is with the rows of chosen tables alone, and which of its objects that needs."""

from __future__ import annotations

import re
from difflib import get_close_matches

from ops.core.errors import RestoreRefusedError
from ops.repository.manifest import Manifest, ObjectRecord
from ops.repository.records import LISTING, ROWS_FILE, STREAM_FILE, PostgresRecord
from ops.sources.postgres.catalog_queries import plain_name
from ops.sources.postgres.small_file_batches import is_pack

_NEAR = 5
_MORE = re.compile(r" and \d+ more$")
"""How a pack ends that names not all it holds."""


def part_of(manifest: Manifest, tables: tuple[str, ...]) -> Manifest:
    """Return the manifest of a backup as if only these tables had had rows; of none, the manifest as it is.

    Raises:
        RestoreRefusedError: it is not of a PostgreSQL database, or has no such table; near names are listed.
    """
    if not tables:
        return manifest
    record = manifest.source
    if not isinstance(record, PostgresRecord):
        raise RestoreRefusedError(f"{manifest.id}: --table is for PostgreSQL; this is a backup of {record.kind}")
    known = [table.table for table in record.tables]
    for table in tables:
        if table not in known:
            raise RestoreRefusedError(f"{manifest.id}: has no table {table}; {_advice(table, record)}")
        if table in record.left_out:
            raise RestoreRefusedError(f"{manifest.id}: has no rows of {table}: backup.tables left them out")
    wanted = {f"table {_words(plain_name(table))}" for table in record.leaves_of(tables)}
    in_packs = wanted - {_words(entry.holds) for entry in manifest.objects if ROWS_FILE.fullmatch(entry.file)}
    objects = tuple(entry for entry in manifest.objects if _is_needed(entry, wanted, in_packs))
    return manifest.model_copy(update={"source": record.with_rows_of(tables), "objects": objects})


def _advice(table: str, record: PostgresRecord) -> str:
    if root := next((root for root, leaves in record.partitions.items() if table in leaves), None):
        return f"it is a partition of {root}: restore that table"
    known = [each.table for each in record.tables]
    same = [name for name in known if name.endswith(f".{table}")]
    if near := same or get_close_matches(table, known, n=_NEAR, cutoff=0.8):
        return f"is it {' or '.join(near)}?"
    return "name it as `ops backup show` does, with its schema"


def _is_needed(entry: ObjectRecord, wanted: set[str], in_packs: set[str]) -> bool:
    """Say whether an object has rows of one of the tables, or may have, or what names all the rest."""
    if entry.file in (LISTING, STREAM_FILE):
        return True
    if not (is_pack(entry.file) or ROWS_FILE.fullmatch(entry.file)):
        return False
    held = f" {_words(entry.holds)} "
    here = in_packs if is_pack(entry.file) else wanted
    return any(f" {table} " in held or _MORE.search(entry.holds) for table in here)


def _words(text: str) -> str:
    """Return the words of a name or of several, however spaces and dots stand: `holds` is of a list made of words."""
    return " ".join(re.split(r"[\s.,]+", text))
