"""Write the last lines of a PostgreSQL backup's page: the calls of createdb, pg_restore and psql."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from psycopg import sql

from ops.repository.records import STREAM_FILE, PostgresRecord
from ops.sources.postgres import database
from ops.sources.postgres.small_file_batches import is_pack

_DATABASE = sql.SQL(':"new"')
"""Placeholder that psql replaces by the quoted name of the new database."""


_AGAIN = """\
# what failed is tried again by itself, now that everything else is there, with the search path of the database
pg_restore --list {archive} >"$NEW_LOG.list"
grep -oE 'from TOC entry [0-9]+;' "$NEW_LOG" | grep -oE '[0-9]+' | sort -u >"$NEW_LOG.failed" || true
grep -vE '^;' "$NEW_LOG.list" | while IFS= read -r entry; do
  grep -qxF "${{entry%%;*}}" "$NEW_LOG.failed" || continue
  printf '%s\\n' "$entry" >"$NEW_LOG.entry"
  pg_restore --use-list="$NEW_LOG.entry" --file=- {archive} |
    sed "1,40{{/^SELECT pg_catalog.set_config('search_path'/d}}" |
    psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --single-transaction "$NEW" ||
    printf 'not made: %s\\n' "$entry" >>"$NEW_LOG.not-made"
done"""


def last_steps(record: PostgresRecord, files: Sequence[str]) -> list[str]:
    """Return the lines in the order of `ops restore`: settings, definitions and rows, retries, grants.

    Args:
        record: describes the source. Its names and values are text of anyone who could write them in the database:
            they are quoted in the script, or left out.
        files: of the dump.
    """
    stream = next((file for file in files if file == STREAM_FILE), None)
    archive = stream or "."
    form = "custom" if stream else "directory"
    return [
        f"# PostgreSQL {record.readable_from} or newer; it needs the roles {_names(record.named_roles)}",
        *([f"# tablespaces, or pg_restore --no-tablespaces: {_names(record.tablespaces)}"] * bool(record.tablespaces)),
        *(['for f in small-*.tar; do tar -xf "$f" && rm "$f"; done'] * any(map(is_pack, files))),
        "# with the source's locale; where a server lacks it, give one that it has",
        f'createdb --template=template0 {shlex.join(_locale(record))} "$NEW"',
        "export PGOPTIONS='-c default_transaction_read_only=off'",
        "# the database's own settings, before its rows; psql names what it may not set",
        *_psql(_line(statements) for _, statements in database.options(_DATABASE, record)),
        "# an object that cannot be made costs nothing but itself",
        "NEW_LOG=$(mktemp -d)/log",
        f'pg_restore --jobs=2 --verbose --format={form} --dbname="$NEW" {archive} 2>"$NEW_LOG" || true',
        *_AGAIN.format(archive=archive).splitlines(),
        "# what pg_dump leaves out: grants on the database, its limit and owner; psql names what it may not",
        *_psql(_line(statements) for statements in _of_the_database(record)),
        "# what was not made, if anything",
        'if [ -s "$NEW_LOG.not-made" ]; then cat "$NEW_LOG.not-made"; exit 3; fi',
    ]


def _psql(lines: Iterable[str]) -> list[str]:
    """Return the call of psql with these statements; nothing without a statement."""
    found = list(lines)
    if not found:
        return []
    return [
        """psql --no-psqlrc --quiet --output=/dev/null --set=new="$NEW" "$NEW" <<'SQL'""",
        *[line for line in found if line.isprintable()],
        *(["-- a name or a value with a line break: see manifest.json"] * (not all(map(str.isprintable, found)))),
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
    if record.connection_limit >= 0:
        yield [whole + sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(record.connection_limit))]
    if record.owner:
        yield [whole + sql.SQL(" OWNER TO {}").format(sql.Identifier(record.owner))]


def _line(statements: Sequence[sql.Composable]) -> str:
    texts = [statement.as_string() for statement in statements]
    return "; ".join(["BEGIN", *texts, "COMMIT"] if len(texts) > 1 else texts) + ";"


def _names(names: Iterable[str]) -> str:
    return ", ".join(name if name.isprintable() else ascii(name) for name in names) or "none"
