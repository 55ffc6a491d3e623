"""Chosen tables of an archive: all that is defined there, and the rows of these tables alone.

A foreign key of a chosen table to one that stays empty could not be made; it is left out, and named. Which those are is
known from the archive's list: its entries name what each depends on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.core.errors import IntegrityError, RestoreError
from ops.sources.postgres.catalog_queries import name_parts
from ops.sources.postgres.tools import Tool, run_tool, tool_message

_ENTRY = re.compile(r"^(\d+); \d+ \d+ (.*)$")
_DEPENDS = ";\tdepends on: "
_NEVER = re.compile(
    r"TABLE DATA |BLOBS? |BLOB METADATA |(ACL|COMMENT|SECURITY LABEL) - LARGE OBJECTS? "
    r"|MATERIALIZED VIEW DATA "  # it would be filled from tables that are empty
)
"""What holds rows. Those of the chosen tables are kept."""
_LINK = "FK CONSTRAINT "


@dataclass(kw_only=True)
class Part:
    """The chosen tables, as fingerprints name them. `left_out` are the foreign keys that could not be made."""

    tables: tuple[str, ...]
    left_out: list[str] = field(default_factory=list[str])

    def of(self, lines: Iterable[str], tool: Tool, archive: Path, variables: Mapping[str, str]) -> list[str]:
        """Return those lines of the archive's list that make this part, and take note of what is left out.

        Args:
            lines: the list, without comments.
            tool: pg_restore.
            archive: the archive; its list is enough.
            variables: of the environment.

        Raises:
            IntegrityError: the archive has no rows of a chosen table.
            RestoreError: it cannot be listed.
        """
        rows = self._rows(tool, archive, variables)
        entries = _entries(_list(tool, archive, ["--verbose"], variables))
        links = _to_empty(entries, {_number(line) for line in rows})
        self.left_out = [_link_name(entries[link].what) for link in sorted(links)]
        without = links | {number for number, entry in entries.items() if links & set(entry.needs)}  # comments on them
        return [line for line in lines if line in rows or not (_number(line) in without or _NEVER.match(_what(line)))]

    def _rows(self, tool: Tool, archive: Path, variables: Mapping[str, str]) -> set[str]:
        """Ask pg_restore, who knows each name as it is, for the entries of the chosen tables' rows."""
        schemas: dict[str, dict[str, str]] = {}
        for name in self.tables:
            schema, table = name_parts(name)
            schemas.setdefault(schema, {})[table] = name
        found = set[str]()
        for schema, tables in schemas.items():
            chosen = ["--data-only", f"--schema={schema}", *(f"--table={table}" for table in tables)]
            listed = _list(tool, archive, chosen, variables)
            found |= {line for line in listed if _what(line).startswith("TABLE DATA ")}
        if len(found) < len(self.tables):
            raise IntegrityError(
                f"the archive has rows of {len(found)} of the {len(self.tables)} tables {', '.join(self.tables)}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An entry of the list: its kind and names, and the numbers of those it needs."""

    what: str
    needs: tuple[int, ...]


def _list(tool: Tool, archive: Path, options: list[str], variables: Mapping[str, str]) -> list[str]:
    listing = run_tool(tool, ["--list", *options, str(archive)], variables)
    if listing.returncode != 0:
        raise RestoreError(f"the dump cannot be listed: {tool_message(listing.stderr)}")
    return listing.stdout.splitlines()


def _number(line: str) -> int:
    return int(line.partition(";")[0])


def _what(line: str) -> str:
    match = _ENTRY.match(line)
    return match[2] if match else ""


def _entries(lines: Iterable[str]) -> dict[int, _Entry]:
    found: dict[int, _Entry] = {}
    last = 0
    for line in lines:
        if match := _ENTRY.match(line):
            last = int(match[1])
            found[last] = _Entry(what=match[2], needs=())
        elif line.startswith(_DEPENDS) and last:
            needs = tuple(map(int, line.removeprefix(_DEPENDS).split()))
            found[last] = _Entry(what=found[last].what, needs=needs)
    return found


def _to_empty(entries: Mapping[int, _Entry], rows: set[int]) -> set[int]:
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
        """Return the tables whose keys it needs: it needs them by their index."""
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
