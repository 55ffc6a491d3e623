"""What belongs to the database itself, and what is usual where the server is one's own."""

from __future__ import annotations

import pytest

from ops.backup.create import BackupJob, create
from ops.core.errors import RestoreRefusedError
from ops.sources.postgres.database import create_database
from ops.sources.postgres.source import PostgresDatabase, catalog_queries
from ops.sources.postgres.tools import find_tool
from tests.kits.messages import silent
from tests.ops.drill_kit import drill
from tests.ops.restore_kit import RestoreJob, plan, run
from tests.ops.source_kit import by_hand_into

ITSELF = """
SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text[],
       has_database_privilege('app', oid, 'CONNECT'), has_database_privilege('app', oid, 'CREATE')
FROM pg_database d WHERE datname = current_database()
"""
SETTINGS = """
SELECT setrole::regrole::text, (SELECT array_agg(x ORDER BY x) FROM unnest(setconfig) x)
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE datname = current_database() ORDER BY 1
"""


@pytest.fixture
def own(cluster, folder):
    """Makes the database `own` by statements of the role that made the cluster; `then` they are run outside of it."""

    def build(*statements, options="", then=()):
        with cluster.connect() as connection:
            connection.execute(f"CREATE DATABASE own TEMPLATE template0 {options}")
        with cluster.on("own").connect() as connection:
            for statement in statements:
                connection.execute(statement)
        with cluster.connect() as connection:
            for statement in then:
                connection.execute(statement)
        return PostgresDatabase(endpoint=cluster.on("own"))

    yield build
    with cluster.connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'own%'").fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for role in ("guest", "super"):
            connection.execute(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def backup(folder):
    def build(source):
        job = BackupJob(environment="staging", project="test", name="own", source=source, stores=(folder,))
        return create(job, silent)

    return build


@pytest.fixture
def restore(cluster, folder):
    def build(manifest, *, admin=cluster, **more):
        values = {"store": folder, "manifest": manifest, "admin": admin, "owner": admin, "live": ("own",)}
        return RestoreJob(**{**values, "target": "own_copy", **more})

    return build


def ask(endpoint, query):
    with endpoint.connect() as connection:
        return connection.execute(query).fetchall()


def rehearsed(folder):
    evidence = drill(folder, None, name="own", signer=None)
    assert evidence.verdict == "green", evidence.summary()
    return evidence


ROWS = ("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")


def test_what_the_role_that_made_the_cluster_owns_or_is_granted_is_named(own, cluster, admin, app):
    """PostgreSQL records no dependency on it. What extensions bring is not in a dump, whoever owns it."""
    source = own(
        "CREATE SCHEMA of_app AUTHORIZATION app",
        "SET ROLE app",
        "CREATE TABLE of_app.t (a int)",
        "RESET ROLE",
        "CREATE EXTENSION citext",
        "CREATE TEMPORARY TABLE passing (a int)",
    )
    record = source.fingerprint()
    assert (record.owners, record.roles) == (("app",), ("app",))
    with source.endpoint.connect() as connection:
        connection.execute(f"GRANT SELECT (a) ON of_app.t TO {cluster.user}")
    record = source.fingerprint()
    assert (record.owners, record.roles) == (("app",), (cluster.user, "app"))
    with source.endpoint.connect() as connection:
        connection.execute("CREATE FUNCTION of_app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert source.fingerprint().owners == (cluster.user, "app")


def test_what_belongs_to_a_role_of_the_server_s_maker_is_refused_to_one_who_may_not_act_as_it(
    own, backup, restore, admin, cluster
):
    manifest = backup(own(*ROWS))
    with pytest.raises(RestoreRefusedError, match=f"may not make objects of {cluster.user}"):
        plan(restore(manifest, admin=admin))


def test_owner_limit_grants_and_options_come_back_and_what_does_not_is_named(own, backup, restore, cluster, folder):
    source = own(
        *ROWS,
        "CREATE ROLE super SUPERUSER",
        "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION ev()",
        "ALTER EVENT TRIGGER audit OWNER TO super",
        options="OWNER app CONNECTION LIMIT 42",
        then=(
            "COMMENT ON DATABASE own IS 'ours'",
            "REVOKE ALL ON DATABASE own FROM PUBLIC",
            "ALTER ROLE reporting IN DATABASE own SET statement_timeout = '1s'",
            "ALTER ROLE app IN DATABASE own SET role = 'app'",
            """ALTER DATABASE own SET search_path = "$user", public, "a, b" """,
            "ALTER DATABASE own SET app.\"greeting\" = 'it''s \\ 1'",
            "ALTER DATABASE own SET default_transaction_read_only = on",
        ),
    )
    manifest = backup(source)
    planned, report = plan(restore(manifest)), run(restore(manifest), silent)
    copy = cluster.on("own_copy")
    assert ask(copy, ITSELF) == ask(source.endpoint, ITSELF)
    assert ask(copy, ITSELF)[0][:2] == ("app", 42)
    assert ask(copy, SETTINGS) == ask(source.endpoint, SETTINGS)
    told = "; ".join(report.left_out)
    assert "event trigger audit: it needs a superuser" in told
    assert "comment of the database, in whose place the restore says what it is: ours" in told
    assert tuple(report.left_out) == planned.left_out, "the plan says it before"
    assert "super" not in manifest.source.roles, "what is not restored needs no role"
    evidence = rehearsed(folder)
    for text in ("event trigger audit", "owner app of the database", "options of role reporting"):
        assert any(text in line for line in evidence.not_compared)


@pytest.mark.parametrize("by_superuser", [False, True])
def test_an_option_of_a_role_that_only_a_superuser_may_set_is_skipped_by_a_drill_where_a_restore_skips_it(  # noqa: PLR0917 - fixtures add up
    own, backup, restore, cluster, admin, folder, by_superuser
):
    own(
        "SET ROLE doadmin",
        *ROWS,
        "GRANT SELECT ON t TO reporting",
        options="OWNER doadmin",
        then=(
            "ALTER ROLE reporting IN DATABASE own SET log_min_duration_statement = '5s'",
            "ALTER ROLE reporting IN DATABASE own SET statement_timeout = '1s'",
            "ALTER ROLE reporting IN DATABASE own SET session_preload_libraries = ''",
        ),
    )
    role = cluster if by_superuser else admin
    manifest = backup(PostgresDatabase(endpoint=role.on("own")))
    skipped = run(restore(manifest, admin=role), silent).skipped
    rehearsed = drill(folder, None, name="own", signer=None)
    options = ["log_min_duration_statement", "session_preload_libraries"]
    expected = [] if by_superuser else [f"of role reporting: option {option}" for option in options]
    assert sorted(each.what for each in skipped) == sorted(each.what for each in rehearsed.skipped) == expected
    for each in rehearsed.skipped:
        assert "permission denied to set parameter" in each.why
        assert 'ALTER ROLE "reporting" IN DATABASE' in each.mend
    assert rehearsed.verdict == ("green" if by_superuser else "in part"), rehearsed.summary()


def test_the_page_gives_the_database_its_grants_options_limit_and_owner(own, backup, cluster, folder):
    source = own(
        *ROWS,
        options="OWNER app CONNECTION LIMIT 42",
        then=(
            "REVOKE ALL ON DATABASE own FROM PUBLIC",
            "GRANT CONNECT ON DATABASE own TO reporting",
            "ALTER ROLE reporting IN DATABASE own SET statement_timeout = '1s'",
            """ALTER DATABASE own SET search_path = "$user", public, "a, b", "SQL" """,
            "ALTER DATABASE own SET app.\"greeting\" = 'it''s \\ :new `id`'",
            "ALTER DATABASE own SET default_transaction_read_only = on",
        ),
    )
    made = backup(source)
    done = by_hand_into(cluster, folder.root / "own" / made.id, "own_copy")
    assert (done.returncode, done.stderr) == (0, ""), done
    copy = cluster.on("own_copy")
    assert ask(copy, ITSELF) == ask(source.endpoint, ITSELF)
    assert ask(copy, SETTINGS) == ask(source.endpoint, SETTINGS)
    assert PostgresDatabase(endpoint=copy).check(made.source) == []


def test_no_name_in_a_database_is_a_command_of_the_page(own, backup, cluster, folder):
    """The page is run as it stands, by somebody who holds the identity."""
    traps = ["x\nSQL\ntouch sprung-{}\n", "$(touch sprung-{})", "`touch sprung-{}`", "'; touch sprung-{}; '"]
    roles = [trap.format(number) for number, trap in enumerate(traps)]
    name = '"' + roles[0] + '"'
    source = own(
        *ROWS,
        *(f'CREATE ROLE "{role}"' for role in roles),
        *(f'GRANT SELECT ON t TO "{role}"' for role in roles),
        *(f'CREATE TABLE "{trap.format("table")}" (a int)' for trap in traps),
        then=[
            *(f'GRANT CONNECT ON DATABASE own TO "{role}"' for role in roles),
            f"ALTER ROLE {name} IN DATABASE own SET app.x = 'a'",
            f"ALTER DATABASE own SET app.greeting = '{traps[0].format('option')}'",
        ],
    )
    try:
        made = backup(source)
        done = by_hand_into(cluster, folder.root / "own" / made.id, "own_copy")
    finally:
        with cluster.connect() as connection:
            connection.execute("DROP DATABASE IF EXISTS own_copy")
            connection.execute("DROP DATABASE own WITH (FORCE)")
            for role in roles:
                connection.execute(f'DROP ROLE "{role}"')
    assert (done.returncode, done.stderr) == (0, ""), done
    assert list(folder.root.rglob("sprung*")) == []
    assert "-- a name or a value with a line break" in (folder.root / "own" / made.id / "RESTORE.md").read_text()


def test_who_may_not_give_the_database_to_its_owner_keeps_it_and_says_so(own, backup, restore, admin, app):
    source = own(options="OWNER app", then=["REVOKE ALL ON DATABASE own FROM PUBLIC"])
    with app.on("own").connect() as connection:
        connection.execute("CREATE SCHEMA mine CREATE TABLE t (a int)")
    job = restore(backup(source), admin=admin, owner=app)
    report = run(job, silent)
    assert report.left_out == ["owner app: doadmin may not give the database away, and keeps it, with the same grants"]
    with app.on("own_copy").connect() as connection:
        connection.execute("CREATE SCHEMA more")


def test_a_role_that_only_grants_name_is_refused_before_anything_is_made(own, backup, restore, cluster):
    manifest = backup(
        own(*ROWS, "CREATE ROLE guest", "GRANT SELECT ON t TO guest", then=["GRANT CONNECT ON DATABASE own TO guest"])
    )
    with cluster.on("own").connect() as connection:
        connection.execute("DROP OWNED BY guest")
        connection.execute("DROP ROLE guest")
    with pytest.raises(RestoreRefusedError, match="no role guest, which grants in the backup name; run `CREATE ROLE"):
        plan(restore(manifest))
    assert ask(cluster, "SELECT FROM pg_database WHERE datname = 'own_copy'") == []


@pytest.mark.skipif(find_tool("postgres", at_least="14").major < 15, reason="ICU of databases came with 15")
def test_the_locale_is_that_of_the_source_or_another_is_named(own, backup, restore, cluster, folder):
    icu = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-u-kn-true' LC_COLLATE 'C' LC_CTYPE 'C'"
    source = own("CREATE TABLE t (a text)", "INSERT INTO t VALUES ('a10'), ('a9')", options=icu)
    manifest = backup(source)
    assert run(restore(manifest), silent).left_out == []
    assert ask(cluster.on("own_copy"), "SELECT array_agg(a ORDER BY a) FROM t") == [(["a9", "a10"],)]
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE own_other TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
    said = plan(restore(manifest, target="own_other")).left_out
    assert said == ("locale: the database there has C, the source had icu en-u-kn-true",)
    elsewhere = manifest.source.model_copy(update={"collate": "xx_XX", "ctype": "xx_XX"})
    assert create_database(cluster, "own_1", elsewhere, any_locale=True) == [
        "locale: the server here has no xx_XX, only en-u-kn-true"
    ]
    gone = elsewhere.model_copy(update={"locale_provider": "libc", "locale": None})
    assert create_database(cluster, "own_2", gone, any_locale=True) == [
        "locale: the server here has no xx_XX; the copy has C"
    ]
    assert by_hand_into(cluster, folder.root / "own" / manifest.id, "own_hand").returncode == 0
    assert ask(cluster.on("own_hand"), "SELECT array_agg(a ORDER BY a) FROM t") == [(["a9", "a10"],)]


@pytest.fixture
def fast(cluster, own):
    """A tablespace, which a test may drop."""
    with cluster.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute("CREATE TABLESPACE fast LOCATION ''")

    def drop():
        with cluster.connect() as connection:
            for name in ("own", "own_copy"):
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute("DROP TABLESPACE IF EXISTS fast")

    yield drop
    drop()


DOTTED = (
    "CREATE SCHEMA a",
    'CREATE SCHEMA "a.b"',
    'CREATE TABLE a."b.c" (x serial)',
    'CREATE TABLE "a.b".c (x serial)',
    'CREATE TABLE "a.b"."say ""so"", twice" (x int)',
    'INSERT INTO a."b.c" VALUES (1)',
    'INSERT INTO "a.b".c VALUES (1), (2)',
)


def test_a_drill_is_green_with_no_encoding_odd_names_a_tablespace_and_a_role_of_the_database_alone(
    own, backup, fast, folder
):
    ascii_only = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    place = "CREATE TABLE t (a int) TABLESPACE fast"
    granted = ["CREATE ROLE guest", "GRANT CONNECT ON DATABASE own TO guest"]
    backup(own(*DOTTED, place, options=ascii_only, then=granted))
    assert any("tablespaces fast" in line for line in rehearsed(folder).not_compared)


def test_tables_go_into_their_tablespace_where_the_server_has_it(own, backup, restore, cluster, fast):
    place = "SELECT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE relname = 't'"
    manifest = backup(own("CREATE TABLE t (a int) TABLESPACE fast", "INSERT INTO t VALUES (1)"))
    assert run(restore(manifest), silent).left_out == []
    assert ask(cluster.on("own_copy"), place) == [("fast",)]
    fast()
    report = run(restore(manifest), silent)
    assert report.left_out == [f"tablespaces: {cluster.user} may not use fast there; all goes into the default one"]
    assert ask(cluster.on("own_copy"), place) == []


def test_names_with_dots_are_told_apart(own, backup, restore):
    source = own(*DOTTED)
    record = source.fingerprint()
    assert {(t.table, t.rows) for t in record.tables} == {
        ('a."b.c"', 1),
        ('"a.b".c', 2),
        ('"a.b"."say ""so"", twice"', 0),
    }
    assert {s.sequence for s in record.sequences} == {'a."b.c_x_seq"', '"a.b".c_x_seq'}
    assert all(catalog_queries.full_name(*catalog_queries.name_parts(t.table)) == t.table for t in record.tables)
    report = run(restore(backup(source), tables=('"a.b".c',)), silent)
    assert (report.rows, report.skipped) == (2, [])


def test_an_object_too_large_to_be_read_at_once_is_compared_by_its_pieces(own, monkeypatch):
    source = own("SELECT lo_create(7), lo_create(8)", "SELECT lo_put(7, 0, repeat('x', 300)::bytea)")
    with source.endpoint.connect() as connection:
        whole = catalog_queries.large_objects(connection)
    monkeypatch.setattr(
        catalog_queries, "_LARGE_OBJECTS", "SELECT repeat('x', 2000000000)"
    )  # refused as lo_get would be
    with source.endpoint.connect() as connection:
        assert catalog_queries.large_objects(connection) == whole, "what could be read before has the hash it had"
        monkeypatch.setattr(catalog_queries, "WHOLE_BYTES", 250)
        monkeypatch.setattr(catalog_queries, "PIECE_BYTES", 100)
        before = catalog_queries.large_objects(connection)
        assert before == catalog_queries.large_objects(connection)
        connection.execute("SELECT lo_put(7, 299, 'y')")
        assert catalog_queries.large_objects(connection).hash not in (before.hash, whole.hash)


@pytest.mark.all
def test_an_object_of_more_than_a_gibibyte_is_read(own):
    source = own("SELECT lo_create(7)", "SELECT lo_put(7, 1200000000, 'x')")
    before = source.fingerprint()
    with source.endpoint.connect() as connection:
        connection.execute("SELECT lo_put(7, 1200000000, 'y')")
    assert [difference.what for difference in source.check(before)] == ["(large objects)"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE DOMAIN d AS int",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
    ids=["a type", "a domain", "a function"],
)
def test_a_database_that_holds_no_table_is_not_empty_for_that(own, statement):
    with own("CREATE EXTENSION citext").endpoint.connect() as connection:
        assert catalog_queries.is_empty(connection)
        connection.execute(statement)
        assert not catalog_queries.is_empty(connection)
