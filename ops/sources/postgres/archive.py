"""Read the list of a pg_dump archive: its entries, their dependencies, and their order in a restore."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.core.errors import RestoreError
from ops.repository.records import STREAM_FILE
from ops.sources.postgres.tools import Tool, run_tool, tool_message

_KINDS = (
    "ACCESS METHOD|ACL|AGGREGATE|BLOB COMMENTS|BLOB METADATA|BLOBS|BLOB|CAST|CHECK CONSTRAINT|COLLATION|COMMENT"
    "|CONSTRAINT|CONVERSION|DEFAULT ACL|DEFAULT|DOMAIN|EVENT TRIGGER|EXTENSION|FK CONSTRAINT|FOREIGN DATA WRAPPER"
    "|FOREIGN TABLE|FUNCTION|INDEX ATTACH|INDEX|MATERIALIZED VIEW DATA|MATERIALIZED VIEW|OPERATOR CLASS"
    "|OPERATOR FAMILY|OPERATOR|POLICY|PROCEDURAL LANGUAGE|PROCEDURE|PUBLICATION TABLES IN SCHEMA|PUBLICATION TABLE"
    "|PUBLICATION|ROW SECURITY|RULE|SCHEMA|SECURITY LABEL|SEQUENCE OWNED BY|SEQUENCE SET|SEQUENCE|SERVER|SHELL TYPE"
    "|STATISTICS DATA|STATISTICS|SUBSCRIPTION TABLE|SUBSCRIPTION|TABLE ATTACH|TABLE DATA|TABLE"
    "|TEXT SEARCH CONFIGURATION"
    "|TEXT SEARCH DICTIONARY|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE|TRANSFORM|TRIGGER|TYPE|USER MAPPING|VIEW"
)
_ENTRY = re.compile(rf"^(?P<number>\d+); \d+ \d+ (?P<what>(?P<kind>{_KINDS}) (?P<name>.*))$")
_DEPENDS = ";\tdepends on: "

_ROWS = frozenset({"TABLE DATA", "BLOBS"})
_DATA = _ROWS | {"SEQUENCE SET", "BLOB COMMENTS"}
PARTS = frozenset({
    "ACL", "COMMENT", "DEFAULT", "DEFAULT ACL", "INDEX ATTACH", "ROW SECURITY", "SECURITY LABEL", "SEQUENCE OWNED BY",
    "SEQUENCE SET", "STATISTICS DATA", "TABLE ATTACH", "TABLE DATA",
})  # fmt: skip
"""Kinds of entries that are part of another object, so they are not named separately."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry: its line in the list, its number, its kind, and the numbers of the entries it needs."""

    line: str
    number: int
    kind: str
    name: str
    needs: tuple[int, ...] = ()

    @property
    def what(self) -> str:
        """Return the kind with its names, as in the list."""
        return f"{self.kind} {self.name}"

    @property
    def has_rows(self) -> bool:
        """Return True for the rows of one table, or of large objects."""
        return self.kind in _ROWS

    @property
    def is_first(self) -> bool:
        """Return True for what must come first: a role can only be given a table if it may create in the schema."""
        return self.kind in ("SCHEMA", "EXTENSION") or self.what.startswith("ACL - SCHEMA ")

    def owner(self, roles: Collection[str]) -> str:
        """Return its owner: one of `roles`, the longest that matches, as a name may have spaces; or the last word."""
        fitting = [role for role in roles if self.line.endswith(f" {role}")]
        return max(fitting, key=len) if fitting else self.line.rsplit(" ", 1)[-1]

    def title(self, roles: Collection[str]) -> str:
        """Return its name for people, such as `index public.people_handle_idx`."""
        owner = self.owner(roles)
        name = self.name.removesuffix(f" {owner}") if owner else self.name.rstrip()
        schema, _, rest = name.partition(" ")
        name = rest if schema == "-" else f"{schema}.{rest}"
        if self.kind == "USER MAPPING":
            name = name.removeprefix("USER MAPPING ").replace("SERVER", "on server", 1)
        if self.kind in ("CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "DEFAULT"):
            table, _, own = name.rpartition(" ")
            name = f"{table}.{own}"
        return f"{self.kind.lower()} {name}"


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Entries in the order of a restore, as in pg_restore's passes."""

    first: list[Entry] = field(default_factory=list[Entry])
    definitions: list[Entry] = field(default_factory=list[Entry])
    rows: list[Entry] = field(default_factory=list[Entry])
    after: list[Entry] = field(default_factory=list[Entry])
    grants: list[Entry] = field(default_factory=list[Entry])
    last: list[Entry] = field(default_factory=list[Entry])


def stages(entries: Sequence[Entry]) -> Stages:
    """Sort entries into stages: schemas and extensions, definitions, rows, what needs rows, grants, refreshes."""
    result = Stages()
    past_rows = False
    for entry in entries:
        past_rows = past_rows or entry.kind in _DATA
        if entry.is_first:
            result.first.append(entry)
        elif entry.kind in ("ACL", "DEFAULT ACL"):
            result.grants.append(entry)
        elif entry.kind == "MATERIALIZED VIEW DATA":
            result.last.append(entry)
        elif entry.has_rows:
            result.rows.append(entry)
        elif entry.kind == "BLOB METADATA" or not past_rows:  # makes empty ones, among the rows of tables, since 17
            result.definitions.append(entry)
        else:
            result.after.append(entry)
    return result


def archive_in(folder: Path) -> Path:
    """Return the archive in a folder of fetched files: the streamed file, or the folder itself."""
    stream = folder / STREAM_FILE
    return stream if stream.exists() else folder


def list_archive(
    tool: Tool, archive: Path, variables: Mapping[str, str], options: Sequence[str] = ("--verbose",)
) -> list[Entry]:
    """List an archive with pg_restore (`tool`).

    Raises:
        RestoreError: it cannot be read.
    """
    listing = run_tool(tool, ["--list", *options, str(archive)], variables)
    if listing.returncode != 0:
        raise RestoreError(f"the dump cannot be listed: {tool_message(listing.stderr)}")
    return parse(listing.stdout.splitlines())


def parse(lines: Iterable[str]) -> list[Entry]:
    """Parse the entries of a list printed by pg_restore."""
    found: list[Entry] = []
    for line in lines:
        if match := _ENTRY.match(line):
            found.append(Entry(line=line, number=int(match["number"]), kind=match["kind"], name=match["name"]))
        elif line.startswith(_DEPENDS) and found:
            last = found.pop()
            needs = tuple(map(int, line.removeprefix(_DEPENDS).split()))
            found.append(Entry(line=last.line, number=last.number, kind=last.kind, name=last.name, needs=needs))
    return found
