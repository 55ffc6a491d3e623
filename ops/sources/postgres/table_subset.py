"""Select chosen tables of an archive: all definitions, and only the rows of these tables.

A foreign key of a chosen table to an empty one cannot be made; it is left out and named. These are
found in the archive's list: its entries name their dependencies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.core.errors import IntegrityError
from ops.sources.postgres.archive import Entry, list_archive
from ops.sources.postgres.catalog_queries import name_parts
from ops.sources.postgres.tools import Tool

_NEVER = re.compile(
    r"TABLE DATA |BLOBS? |BLOB METADATA |(ACL|COMMENT|SECURITY LABEL) - LARGE OBJECTS? "
    r"|MATERIALIZED VIEW DATA "  # it would be filled from tables that are empty
)
"""Kinds of entries with rows. Those of the chosen tables are kept."""
_LINK = "FK CONSTRAINT "


@dataclass(kw_only=True)
class Part:
    """The chosen tables, as in fingerprints. `left_out` are the foreign keys that could not be made."""

    tables: tuple[str, ...]
    left_out: list[str] = field(default_factory=list[str])

    def of(self, entries: Sequence[Entry], tool: Tool, archive: Path, variables: Mapping[str, str]) -> list[Entry]:
        """Return the entries of this part, and record what is left out.

        Args:
            entries: of the archive's list, with their dependencies.
            tool: pg_restore.
            archive: the archive; its list is enough.
            variables: environment variables.

        Raises:
            IntegrityError: the archive has no rows of a chosen table.
            RestoreError: it cannot be listed.
        """
        rows = self._rows(tool, archive, variables)
        by_number = {entry.number: entry for entry in entries}
        links = _to_empty(by_number, rows)
        self.left_out = [_link_name(by_number[link].what) for link in sorted(links)]
        without = links | {entry.number for entry in entries if links & set(entry.needs)}  # comments on them
        return [
            entry
            for entry in entries
            if entry.number in rows or not (entry.number in without or _NEVER.match(entry.what))
        ]

    def _rows(self, tool: Tool, archive: Path, variables: Mapping[str, str]) -> set[int]:
        """Ask pg_restore, which knows each exact name, for the entries of the chosen tables' rows."""
        schemas: dict[str, list[str]] = {}
        for name in self.tables:
            schema, table = name_parts(name)
            schemas.setdefault(schema, []).append(table)
        found = set[int]()
        for schema, tables in schemas.items():
            chosen = ["--data-only", f"--schema={schema}", *(f"--table={table}" for table in tables)]
            listed = list_archive(tool, archive, variables, chosen)
            found |= {entry.number for entry in listed if entry.kind == "TABLE DATA"}
        if len(found) < len(self.tables):
            raise IntegrityError(
                f"the archive has rows of {len(found)} of the {len(self.tables)} tables {', '.join(self.tables)}"
            )
        return found


def _to_empty(entries: Mapping[int, Entry], rows: set[int]) -> set[int]:
    """Return the foreign keys of tables with rows to tables whose rows are not among `rows`."""
    tables = {number for number, entry in entries.items() if entry.what.startswith("TABLE ")}
    data = {number: set(entry.needs) for number, entry in entries.items() if entry.what.startswith("TABLE DATA ")}
    tables -= data.keys()
    filled = set[int]().union(*(needs for number, needs in data.items() if number in rows))
    empty = set[int]().union(*data.values()) - filled

    partitions: dict[int, set[int]] = {}
    for number in tables:
        for above in set(entries[number].needs) & tables:
            partitions.setdefault(above, set()).add(number)

    def with_partitions(these: set[int]) -> set[int]:
        below = set[int]().union(*(partitions.get(number, ()) for number in these)) - these
        return with_partitions(these | below) if below else these

    def referenced(number: int) -> set[int]:
        """Return the tables whose keys it needs: it depends on their indexes."""
        found = set[int]()
        for needed in set(entries[number].needs) - tables:
            if needed in entries:
                found |= (set(entries[needed].needs) & tables) | referenced(needed)
        return found

    links = set[int]()
    for number, entry in entries.items():
        if entry.what.startswith(_LINK):
            there = referenced(number)
            own = (set(entry.needs) & tables) - there or there  # a table may refer to itself
            if with_partitions(own) & filled and with_partitions(there) & empty:
                links.add(number)
    return links


def _link_name(what: str) -> str:
    schema, _, rest = what.removeprefix(_LINK).partition(" ")
    return f"foreign key {schema}.{rest.rpartition(' ')[0]}"
