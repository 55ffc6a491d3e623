"""Sessions: a fixed search path, no timeout, an environment without secrets, one kind of error, encryption."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import ops
from blueprint.settings.backup import PostgresqlSource
from ops.core.errors import DatabaseError, DatabaseUnreachableError
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Endpoint, timeouts
from tests.ops.drill_kit import identity, make
from tests.ops.restore_kit import RestoreJob, plan

__all__ = ["identity"]

STEAL = """
CREATE SCHEMA evil;
CREATE TABLE evil.seen (by text);
GRANT ALL ON SCHEMA evil TO PUBLIC; GRANT ALL ON evil.seen TO PUBLIC;
CREATE FUNCTION evil.same(name, text) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.seen VALUES (current_user); RETURN $1::text OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same);
CREATE FUNCTION evil.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.seen VALUES (current_user); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
"""


@pytest.fixture
def hostile(cluster, admin, app, shop):
    """A shop whose owner puts a schema of its own before PostgreSQL's; returns who has called a function there."""
    with cluster.connect() as connection:
        connection.execute(f"GRANT CREATE ON DATABASE {shop} TO app")
        connection.execute(f"ALTER DATABASE {shop} SET search_path = evil, pg_catalog, public")
    with app.on(shop).connect() as connection:
        connection.execute(STEAL)

    def seen():
        with cluster.on(shop).connect() as connection:
            return connection.execute("SELECT * FROM evil.seen").fetchall()

    return seen


def test_the_path_of_a_database_makes_no_session_of_ours_run_its_owner_s_code(hostile, cluster, app, folder, identity):
    made = make(PostgresDatabase(endpoint=cluster.on("shop")), identity, folder)
    job = RestoreJob(store=folder, manifest=made, admin=cluster.on("shop"), owner=app.on("shop"), live=("shop",))
    plan(job)
    assert hostile() == []
    with cluster.on("shop").connect() as connection:  # the negative control: the path does lead there
        connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'app'::text")
    assert hostile() != []


def test_a_cast_of_a_table_s_owner_is_not_called_and_does_not_choose_the_fingerprint(cluster, app, shop, source):
    with app.on(shop).connect() as connection:
        connection.execute("SET search_path TO public")
        connection.execute("CREATE TABLE cast_away (a int, o oid); INSERT INTO cast_away VALUES (1, 2)")
        connection.execute("CREATE TABLE called (n int)")
        connection.execute(
            "CREATE FUNCTION constant(cast_away) RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'called'; END $$"
        )
        connection.execute("CREATE CAST (cast_away AS text) WITH FUNCTION constant(cast_away)")
    database = PostgresDatabase(endpoint=cluster.on(shop))

    def hash_now():
        return next(t.hash for t in database.fingerprint().tables if t.table == "public.cast_away")

    before = hash_now()
    with app.on(shop).connect() as connection:
        connection.execute("UPDATE public.cast_away SET a = 2")
    assert hash_now() != before


def test_nothing_but_endpoint_connect_opens_a_session():
    found = set()
    for path in Path(ops.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("psycopg.connect"):
                found.add(path.name)
    assert found == {"tools.py"}


@pytest.mark.parametrize("whose", ["DATABASE shop", "ROLE app"])
def test_every_timeout_of_a_database_or_a_role_is_off_in_our_sessions_and_in_pg_dump_s(cluster, app, shop, whose):
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
    with cluster.connect() as connection:
        for name in names:
            connection.execute(f"ALTER {whose} SET {name} = '3s'")
    try:
        with app.on(shop).connect() as connection:
            assert set(timeouts(connection)) >= set(names)
        with app.on(shop).session_environment({"work_mem": "5MB"}) as variables:
            for name in names:
                assert f"-c {name}=0" in variables["PGOPTIONS"]
            assert "-c work_mem=5MB" in variables["PGOPTIONS"]
        with PostgresDatabase(endpoint=app.on(shop))._session() as connection:
            assert timeouts(connection) == ["lock_timeout"]  # a minute, of ours
            assert connection.execute("SHOW lock_timeout").fetchone() == ("1min",)
    finally:
        with cluster.connect() as connection:
            connection.execute(f"ALTER {whose} RESET ALL")


def test_the_programs_see_no_secret_of_our_environment(app, monkeypatch):
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    with app.environment() as variables:
        assert "secret" not in variables.values()
        assert variables["PATH"]


def test_a_source_is_read_in_sessions_that_cannot_write(source):
    with pytest.raises(DatabaseError, match="read-only"), source._session() as connection:
        connection.execute("CREATE TABLE public.no (a int)")


def test_what_a_server_refuses_is_one_of_our_errors_that_names_the_database(app, shop):
    with (
        pytest.raises(DatabaseError, match=rf"^app@localhost:\d+/{shop}: division by zero"),
        app.on(shop).connect() as c,
    ):
        c.execute("SELECT 1/0")
    with pytest.raises(DatabaseUnreachableError, match="nowhere"), app.on("nowhere").connect():
        pass


@pytest.mark.parametrize(
    ("host", "more", "mode"),
    [
        ("db.example.org", {}, "require"),
        ("10.1.2.3", {}, "require"),
        ("127.0.0.1", {}, "prefer"),
        ("::1", {}, "prefer"),
        ("localhost", {}, "prefer"),
        ("/var/run/postgresql", {}, "prefer"),
        ("db.example.org", {"sslmode": "disable"}, "disable"),
        ("db.example.org", {"ca_certificate": "pem", "sslmode": "disable"}, "verify-full"),
    ],
)
def test_a_server_elsewhere_is_reached_encrypted_unless_the_stack_file_says_otherwise(admin, host, more, mode):
    endpoint = Endpoint(host=host, port=1, user="u", password=admin.password, database="d", **more)
    assert endpoint.ssl == mode
    with endpoint.environment() as variables:
        assert variables["PGSSLMODE"] == mode


def test_a_server_without_tls_is_refused_where_it_must_be_encrypted(app, shop):
    plain = replace(app.on(shop), ca_certificate=None)
    with replace(plain, sslmode="require").connect() as connection:
        assert connection.pgconn.ssl_in_use
    with replace(plain, sslmode="disable").connect() as connection:
        assert not connection.pgconn.ssl_in_use


def test_the_stack_file_takes_a_certificate_and_a_mode():
    source = PostgresqlSource.model_validate(
        {
            "name": "own",
            "database": "a",
            "user": "u",
            "password": "P",
            "caCertificate": "-----BEGIN CERTIFICATE-----\nx\n",
        }
    )
    assert source.ca_certificate
    assert PostgresqlSource(name="own", database="a", user="u", password="P", sslmode="require").sslmode == "require"
