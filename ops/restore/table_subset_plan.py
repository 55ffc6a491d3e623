"""Plan `ops restore --table`: reduce a manifest to the rows of chosen tables, and select the objects they need."""

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
"""End of a pack's description that does not name all its content."""


def part_of(manifest: Manifest, tables: tuple[str, ...]) -> Manifest:
    """Return the manifest of a backup as if only these tables had rows; with no tables, unchanged.

    Raises:
        RestoreRefusedError: it is not a PostgreSQL backup, or has no such table; similar names are listed.
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
        return f"did you mean {' or '.join(near)}?"
    return "give its name with schema, as in `ops backup show`"


def _is_needed(entry: ObjectRecord, wanted: set[str], in_packs: set[str]) -> bool:
    """Return True if an object has, or may have, rows of one of the tables, or is needed to read the rest."""
    if entry.file in (LISTING, STREAM_FILE):
        return True
    if not (is_pack(entry.file) or ROWS_FILE.fullmatch(entry.file)):
        return False
    held = f" {_words(entry.holds)} "
    here = in_packs if is_pack(entry.file) else wanted
    return any(f" {table} " in held or _MORE.search(entry.holds) for table in here)


def _words(text: str) -> str:
    """Return the words of one or several names, ignoring spaces and dots, as `holds` lists words."""
    return " ".join(re.split(r"[\s.,]+", text))
