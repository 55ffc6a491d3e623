"""Draws SQLite databases as statements: odd names, types, encodings, options, constraints that do not hold, indexes."""

from __future__ import annotations

import math

from hypothesis import strategies as st

ODD_NAMES = (
    *("t", "select", "", " ", 'a"b', "a'b", "a;b", "ñ", "名前", "🙂", "x\ty", "a\nb", "[x]", "`x`", "%s", "a.b"),
    *("back\\slash", "\\x41", "rowid", "_rowid_", "main", "null", "-- x", "A", "a", "c0", "0", "true", "*", "?1"),
)
NAMES = st.one_of(
    st.sampled_from(ODD_NAMES),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1, max_size=12),
).filter(lambda name: not name.lower().startswith("sqlite_"))
TYPES = st.sampled_from(
    ["", "INT", "INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC", "ANY", "VARCHAR(9)", "DATETIME", "ñ x"]
)
STRICT_TYPES = st.sampled_from(["INT", "INTEGER", "TEXT", "BLOB", "REAL", "ANY"])
VALUES = st.one_of(
    st.none(),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 127, 128, 2**31, 2**47]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=6).map(lambda raw: ("text", raw)),
    st.integers(1, 9000).map(lambda size: b"\x07" * size),
)
PRAGMAS = st.fixed_dictionaries(
    {},
    optional={
        "page_size": st.sampled_from([512, 1024, 8192, 65536]),
        "encoding": st.sampled_from(["'UTF-8'", "'UTF-16le'", "'UTF-16be'"]),
        "auto_vacuum": st.sampled_from([0, 1, 2]),
        "application_id": st.integers(-(2**31), 2**31 - 1),
        "user_version": st.integers(-(2**31), 2**31 - 1),
        "secure_delete": st.sampled_from([0, 1]),
        "legacy_file_format": st.sampled_from([0, 1]),
    },
)
JOURNALS = st.sampled_from(["delete", "truncate", "persist", "wal", "wal left", "hot journal"])


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Write a value as SQL, since bytes that are no text cannot be bound as text."""
    match value:
        case None:
            text = "NULL"
        case float():
            text = "(9e999 - 9e999)" if math.isnan(value) else repr(value).replace("inf", "9e999")
        case int():
            text = str(value) if value != -(2**63) else "(-9223372036854775807 - 1)"
        case bytes():
            text = f"x'{value.hex()}'"
        case ("text", raw):
            text = f"CAST(x'{raw.hex()}' AS TEXT)"
        case _:
            text = f"CAST(x'{str(value).encode().hex()}' AS TEXT)"
    return text


@st.composite
def tables(draw, known):
    name = draw(NAMES)
    strict = draw(st.booleans())
    types = STRICT_TYPES if strict else TYPES
    columns = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower))
    parts = []
    for column in columns:
        part = f"{quoted(column)} {draw(types)}"
        part += draw(
            st.sampled_from(["", "", "", " UNIQUE", " NOT NULL", " DEFAULT 7", " COLLATE NOCASE", " COLLATE app_order"])
        )
        if draw(st.integers(0, 9)) == 0:
            part += f" CHECK ({quoted(column)} IS NOT 5)"
        if draw(st.integers(0, 9)) == 0:
            part += f" CHECK (app_function({quoted(column)}) IS NOT 5)"
        if known and draw(st.integers(0, 4)) == 0:
            other, others = draw(st.sampled_from(known))
            part += f" REFERENCES {quoted(other)}" + draw(st.sampled_from(["", f" ({quoted(others[0])})", ' ("gone")']))
        parts.append(part)
    if draw(st.booleans()):
        stored = draw(st.sampled_from(["STORED", "VIRTUAL"]))
        call = draw(st.sampled_from(["app_function", "typeof", "quote"]))
        kind = draw(types)
        parts.append(f'"made here" {kind} GENERATED ALWAYS AS ({call}({quoted(columns[0])})) {stored}')
    options = ["STRICT"] if strict else []
    if draw(st.booleans()):
        parts.append(f"PRIMARY KEY ({quoted(columns[0])})")
        options += draw(st.sampled_from([[], ["WITHOUT ROWID"]]))
    statements = [f"CREATE TABLE {quoted(name)} ({', '.join(parts)}) {', '.join(options)}"]
    listed = ", ".join(map(quoted, columns))
    statements += [
        f"INSERT OR IGNORE INTO {quoted(name)} ({listed}) VALUES ({', '.join(map(literal, row))})"
        for row in draw(st.lists(st.tuples(*[VALUES] * len(columns)), max_size=6))
    ]
    column = quoted(draw(st.sampled_from(columns)))
    index = quoted(draw(NAMES) + " index")
    statements += draw(
        st.lists(
            st.sampled_from(
                [
                    f"CREATE INDEX {index} ON {quoted(name)} ({column})",
                    f"CREATE INDEX {index} ON {quoted(name)} (app_function({column}), {column} DESC)",
                    f"CREATE INDEX {index} ON {quoted(name)} ({column} COLLATE app_order) WHERE {column} IS NOT NULL",
                    f"CREATE VIEW {quoted(name + ' view')} AS SELECT app_function({column}) FROM {quoted(name)}",
                    f"CREATE TRIGGER {quoted(name + ' trigger')} AFTER UPDATE ON {quoted(name)} BEGIN SELECT 1; END",
                    f"DELETE FROM {quoted(name)} WHERE rowid % 2",
                    f"ALTER TABLE {quoted(name)} ADD COLUMN later DEFAULT 'x'",
                    f"CREATE VIRTUAL TABLE {quoted(name + ' words')} USING fts5 (body)",
                    f"CREATE VIRTUAL TABLE {quoted(name + ' places')} USING rtree (id, x0, x1)",
                    "ANALYZE",
                ]
            ),
            max_size=4,
        )
    )
    return name, columns, statements


SPOILERS = st.lists(
    st.sampled_from(
        [
            "UPDATE sqlite_master SET sql = replace(sql, ' DEFAULT 7', ' NOT NULL') WHERE type = 'table'",
            # a key that is the row's id may not become one that needs an index: that is damage
            "UPDATE sqlite_master SET sql = replace(sql, ' INT', ' TEXT') WHERE sql NOT LIKE '%PRIMARY KEY%'",
            "UPDATE sqlite_master SET sql = replace(sql, 'IS NOT 5', 'IS 5') WHERE type = 'table'",
            "UPDATE sqlite_master SET sql = replace(sql, 'SELECT', 'SELEC') WHERE type IN ('view', 'trigger')",
            "UPDATE sqlite_master SET sql = replace(sql, 'fts5', 'no_such_module') WHERE type = 'table'",
            "UPDATE sqlite_master SET sql = CAST(CAST(sql AS BLOB) || x'202d2dff' AS TEXT) WHERE type = 'view'",
        ]
    ),
    max_size=2,
)


@st.composite
def databases(draw):
    """Return (settings, statements, spoilers, how the journal is left)."""
    known, statements = [], []
    for _ in range(draw(st.integers(0, 3))):
        name, columns, made = draw(tables(known))
        known.append((name, columns))
        statements += made
    return draw(PRAGMAS), statements, draw(SPOILERS), draw(JOURNALS)
