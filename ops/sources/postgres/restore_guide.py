"""The last lines of a PostgreSQL backup's page: what createdb, pg_restore and psql are given."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from psycopg import sql

from ops.repository.records import STREAM_FILE, PostgresRecord
from ops.sources.postgres import database
from ops.sources.postgres.small_file_batches import is_pack

_DATABASE = sql.SQL(':"new"')
"""What psql puts the quoted name of the new database in place of."""


def last_steps(record: PostgresRecord, files: Sequence[str]) -> list[str]:
    """Return them.

    Args:
        record: what the source was like. Its names and values are text of whoever could write them in the database:
            they stand in the script quoted, or not at all.
        files: of the dump.
    """
    stream = next((file for file in files if file == STREAM_FILE), None)
    archive = f'--format=custom --dbname="$NEW" {stream}' if stream else '--format=directory --dbname="$NEW" .'
    rest = [_line(statements) for statements in _of_the_database(record)]
    return [
        f"# PostgreSQL {record.readable_from} or newer; it needs the roles {_names(record.named_roles)}",
        *([f"# tablespaces, or pg_restore --no-tablespaces: {_names(record.tablespaces)}"] * bool(record.tablespaces)),
        *(['for f in small-*.tar; do tar -xf "$f" && rm "$f"; done'] * any(map(is_pack, files))),
        "# with the source's locale; where a server lacks it, give one that it has",
        f'createdb --template=template0 {shlex.join(_locale(record))} "$NEW"',
        f"pg_restore --jobs=2 --exit-on-error {archive}",
        "# what pg_dump leaves out: grants on the database, its options, limit and owner; psql names what it may not",
        """psql --no-psqlrc --quiet --output=/dev/null --set=new="$NEW" "$NEW" <<'SQL'""",
        *[line for line in rest if line.isprintable()],
        *(["-- a name or a value with a line break: see manifest.json"] * (not all(map(str.isprintable, rest)))),
        "SQL",
    ]


def _locale(record: PostgresRecord) -> list[str]:
    options = [f"--encoding={record.encoding}", f"--lc-collate={record.collate}", f"--lc-ctype={record.ctype}"]
    if record.locale_provider is None or record.server_major < 15:
        return options
    options.append(f"--locale-provider={record.locale_provider}")
    if record.locale and record.locale_provider != "libc":
        options.append(f"--{record.locale_provider}-locale={record.locale}")
    return options + [f"--icu-rules={record.icu_rules}"] * bool(record.icu_rules)


def _of_the_database(record: PostgresRecord) -> Iterable[Sequence[sql.Composable]]:
    whole = sql.SQL("ALTER DATABASE {}").format(_DATABASE)
    for statement in database.grants(_DATABASE, record):
        yield [statement]
    for _, statements in database.options(_DATABASE, record):
        yield statements
    if record.connection_limit >= 0:
        yield [whole + sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(record.connection_limit))]
    if record.owner:
        yield [whole + sql.SQL(" OWNER TO {}").format(sql.Identifier(record.owner))]


def _line(statements: Sequence[sql.Composable]) -> str:
    texts = [statement.as_string() for statement in statements]
    return "; ".join(["BEGIN", *texts, "COMMIT"] if len(texts) > 1 else texts) + ";"


def _names(names: Iterable[str]) -> str:
    return ", ".join(name if name.isprintable() else ascii(name) for name in names) or "none"
