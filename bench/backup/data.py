"""The data of a run: generated from a seed, the same bytes every time.

Six kinds, by what makes backups hard: wide text, JSONB, narrow rows with indexes, bytea that no compressor can shrink,
five hundred small tables, and large objects. Text is drawn from a pool of sentences far larger than the window of zstd
at the levels compared, with words as frequent as in a language, so that it compresses as prose does and not as a loop.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, count
from random import Random

import psycopg
from psycopg import sql

MIB = 1 << 20
DATABASE = "shop"
OWNER = "app"
ADMIN = "doadmin"
SMALL_TABLES = 500
FIRST_LARGE_OBJECT = 100_000
LARGE_OBJECT = 256 << 10
POOL_CHARACTERS = 24 * MIB
BATCH = 1 << 20
FINGERPRINT_CONNECTIONS = 2

SHARES = {"articles": 0.30, "events": 0.25, "ledger": 0.10, "files": 0.16, "small": 0.06, "objects": 0.13}
"""Of the asked size, as the bytes of the rows; indexes and page overhead come on top."""

SCHEMA = """
CREATE TABLE articles (
    id bigint NOT NULL, slug text NOT NULL, title text NOT NULL, author text, section text, summary text,
    body text NOT NULL, footer text, language text, tags text[], published timestamptz, updated timestamptz
);
CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL, kind text NOT NULL, payload jsonb NOT NULL);
CREATE TABLE ledger (
    id bigint NOT NULL, account int NOT NULL, booked date NOT NULL, amount numeric(12,2) NOT NULL, open boolean,
    note text
);
CREATE TABLE files (id uuid NOT NULL, name text NOT NULL, content bytea NOT NULL);
ALTER TABLE files ALTER content SET STORAGE EXTERNAL;
CREATE SCHEMA small;
"""

INDEXES = """
ALTER TABLE articles ADD PRIMARY KEY (id);
CREATE INDEX ON articles (section, published);
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX ON events (kind, at);
ALTER TABLE ledger ADD PRIMARY KEY (id);
CREATE INDEX ON ledger (account, booked);
ALTER TABLE files ADD PRIMARY KEY (id);
"""

CHANGE = """
UPDATE articles SET title = title || ', revised', updated = updated + interval '1 day'
    WHERE id > (SELECT max(id) * 0.99 FROM articles);
UPDATE events SET payload = payload || '{"seen": true}' WHERE id > (SELECT max(id) * 0.99 FROM events);
UPDATE ledger SET open = NOT open WHERE id > (SELECT max(id) * 0.99 FROM ledger);
"""
"""The newest hundredth of the rows, where people work; changes spread over all rows would leave no dedup a chance."""

Connect = Callable[[str], "psycopg.Connection[tuple[object, ...]]"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was generated. Bytes as the server counts them, indexes included."""

    seed: int
    database_bytes: int
    tables: int
    rows: int
    large_objects: int


def generate(connect: Connect, *, size: int, seed: int) -> Facts:
    """Make roles and the database, fill it with about `size` bytes, and leave it vacuumed and analyzed.

    Args:
        connect: opens a superuser's connection to a database.
        size: bytes of rows.
        seed: what everything is drawn from.
    """
    with connect("postgres") as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                sql.Identifier(DATABASE), sql.Identifier(OWNER)
            )
        )
    with connect(DATABASE) as connection:
        _become_owner(connection)
        connection.execute(SCHEMA)
    _inherited["pool"] = _pool(Random(f"{seed}:pool"))  # noqa: S311  # data, not a secret
    kinds = sorted(SHARES, key=lambda kind: -SHARES[kind])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as workers:
        for future in [workers.submit(_fill, connect, kind, int(size * SHARES[kind]), seed) for kind in kinds]:
            future.result()
    with connect(DATABASE) as connection:
        _become_owner(connection)
        connection.execute(INDEXES)
        connection.execute("RESET ROLE")
        connection.execute("VACUUM ANALYZE")
    return facts(connect, seed)


def facts(connect: Connect, seed: int) -> Facts:
    """Describe the database as it is now."""
    with connect(DATABASE) as connection:
        row = connection.execute(
            "SELECT pg_database_size(current_database()), (SELECT count(*) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = relnamespace WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')),"
            " (SELECT count(*) FROM pg_largeobject_metadata)"
        ).fetchone()
    found = fingerprint(connect, DATABASE)
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    size, tables, objects = (int(str(value)) for value in row)
    rows = sum(int(line.partition("|")[0]) for line in found) - objects
    return Facts(seed=seed, database_bytes=size, tables=tables, rows=rows, large_objects=objects)


def double(connect: Connect) -> None:
    """Double the database: every table once more, with its indexes, in a schema of its own; large objects as well."""
    with connect(DATABASE) as connection:
        _become_owner(connection)
        names = connection.execute(
            "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        ).fetchall()
        mark = len({schema for schema, _ in names})
        for schema in sorted({str(schema) for schema, _ in names}):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(f"{schema}_{mark}")))
        for schema, name in names:
            old = sql.Identifier(str(schema), str(name))
            new = sql.Identifier(f"{schema}_{mark}", str(name))
            connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(new, old))
            connection.execute(sql.SQL("INSERT INTO {} SELECT * FROM {}").format(new, old))
        connection.execute("SELECT lo_from_bytea(0, lo_get(oid)) FROM pg_largeobject_metadata")
        connection.execute("RESET ROLE")
        connection.execute("VACUUM ANALYZE")


def change(connect: Connect) -> None:
    """Change the newest hundredth of the rows."""
    with connect(DATABASE) as connection:
        connection.execute(CHANGE)


def fingerprint_scripts(connect: Connect, database: str) -> list[str]:
    """Return SQL that counts and hashes every table, dealt to as many connections as the tools under test use."""
    with connect(database) as connection:
        names = connection.execute(
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')"
            " ORDER BY pg_table_size(c.oid) DESC, 1"
        ).fetchall()
    statements = [f"SELECT count(*), sum(hash_record_extended(t, 0)), '{name}' FROM {name} t;" for (name,) in names]  # noqa: S608  # quoted by format()
    statements.insert(
        1,
        "SELECT count(*), sum(hashtextextended(oid::text || md5(lo_get(oid)), 0)), 'lo' FROM pg_largeobject_metadata;",
    )
    # largest first, dealt 0 1 1 0 0 1 1 0 …, so that the shares come out alike
    order = [0, 1, 1, 0]
    return [
        "\n".join(text for index, text in enumerate(statements) if order[index % 4] == connection)
        for connection in range(FINGERPRINT_CONNECTIONS)
    ]


def fingerprint(connect: Connect, database: str) -> list[str]:
    """Return rows, hash and name of every table and of the large objects, sorted by name: equal when they are."""

    def run(script: str) -> list[str]:
        with connect(database) as connection:
            lines: list[str] = []
            for statement in script.splitlines():
                row = connection.execute(statement.encode()).fetchone()
                lines += ["|".join(map(str, row or ()))]
            return lines

    with ThreadPoolExecutor(FINGERPRINT_CONNECTIONS) as workers:
        parts = workers.map(run, fingerprint_scripts(connect, database))
        return sorted((line for part in parts for line in part), key=lambda line: line.rpartition("|")[2])


_inherited = {"pool": ""}
"""What the forked workers find in their memory: the pool is made once, not once a worker."""


def _pool(random: Random) -> str:
    syllables = ["ca", "ren", "to", "mi", "las", "por", "ção", "ver", "di", "en", "sol", "que", "ra", "ti", "un", "bre"]
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))  # Zipf
    sentences: list[str] = []
    length = 0
    while length < POOL_CHARACTERS:
        sentence = " ".join(random.choices(words, cum_weights=weights, k=random.randint(5, 20))) + ". "
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences)


def _text(random: Random, least: int, most: int) -> str:
    pool = _inherited["pool"]
    begin = random.randrange(len(pool) - most)
    return pool[begin : begin + random.randint(least, most)].strip()


def _fill(connect: Connect, kind: str, size: int, seed: int) -> None:
    random = Random(f"{seed}:{kind}")  # noqa: S311  # data, not a secret
    with connect(DATABASE) as connection:
        _become_owner(connection)
        if kind == "objects":
            for number in range(max(1, size // LARGE_OBJECT)):
                half = random.randbytes(LARGE_OBJECT // 2)  # the other half is text: as a PDF is
                content = half + _text(random, LARGE_OBJECT // 2, LARGE_OBJECT // 2).encode()
                connection.execute("SELECT lo_from_bytea(%s, %s)", [FIRST_LARGE_OBJECT + number, content])
        elif kind == "small":
            share = size // SMALL_TABLES
            for number in range(SMALL_TABLES):
                table = sql.Identifier("small", f"t{number:03}")
                connection.execute(
                    sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, name text, value numeric)").format(table)
                )
                _copy(connection, table, _small(random), share)
        else:
            written = size * 2 if kind == "files" else size  # a bytea is written as hex
            _copy(connection, sql.Identifier(kind), _ROWS[kind](random), written)


def _copy(
    connection: psycopg.Connection[tuple[object, ...]], table: sql.Identifier, rows: Iterator[str], size: int
) -> None:
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
        sent = 0
        batch: list[str] = []
        length = 0
        while sent + length < size:
            row = next(rows)
            batch.append(row)
            length += len(row)
            if length >= BATCH:
                copy.write("".join(batch))
                sent, length, batch = sent + length, 0, []
        copy.write("".join(batch))


def _articles(random: Random) -> Iterator[str]:
    for number in count(1):
        when = f"2026-{number % 12 + 1:02}-{number % 28 + 1:02} {number % 24:02}:{number % 60:02}:00+00"
        title = _text(random, 30, 80)
        yield (
            f"{number}\tarticle-{number}-{random.randrange(1 << 32):x}\t{title}\t{_text(random, 8, 20)}\t"
            f"section-{random.randrange(40)}\t{_text(random, 100, 200)}\t{_text(random, 600, 1400)}\t"
            f"{_text(random, 20, 60)}\tes\t{{t{random.randrange(50)},t{random.randrange(50)}}}\t{when}\t{when}\n"
        )


def _events(random: Random) -> Iterator[str]:
    kinds = ["view", "order", "login", "payment", "error"]
    for number in count(1):
        payload = (
            f'{{"session": "{random.randrange(1 << 64):016x}", '
            f'"ip": "10.{random.randrange(256)}.{random.randrange(256)}.1", '
            f'"user": {{"id": {random.randrange(200_000)}, "name": "{_text(random, 8, 24)}", "staff": false}}, '
            f'"items": [{{"sku": "A-{random.randrange(9999)}", "price": {random.randrange(99999) / 100}}}, '
            f'{{"sku": "B-{random.randrange(9999)}", "price": {random.randrange(99999) / 100}}}], '
            f'"agent": "Mozilla/5.0 (X11; Linux x86_64) Version/{random.randrange(100)}.0", '
            f'"comment": "{_text(random, 150, 500)}"}}'
        )
        second = number % 86_400
        when = f"2026-03-{number // 86_400 % 28 + 1:02} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+00"
        yield f"{number}\t{when}\t{kinds[random.randrange(5)]}\t{payload}\n"


def _ledger(random: Random) -> Iterator[str]:
    for number in count(1):
        day = f"2025-{number // 4000 % 12 + 1:02}-{random.randrange(28) + 1:02}"
        yield (
            f"{number}\t{random.randrange(50_000)}\t{day}\t{random.randrange(-(10**7), 10**7) / 100:.2f}\t"
            f"{'ft'[random.randrange(2)]}\t{_text(random, 5, 30)}\n"
        )


def _files(random: Random) -> Iterator[str]:
    for number in count(1):
        content = random.randbytes(random.randint(8 << 10, 128 << 10))
        yield f"{random.getrandbits(128):032x}\tupload-{number}.bin\t\\\\x{content.hex()}\n"


def _small(random: Random) -> Iterator[str]:
    for number in count(1):
        yield f"{number}\t{_text(random, 10, 60)}\t{random.randrange(10**9) / 1000}\n"


_ROWS = {"articles": _articles, "events": _events, "ledger": _ledger, "files": _files}


def _become_owner(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
