"""A backup's own code in a drill: it runs without a superuser's rights, and what ordinary databases hold loads so."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from ops.sources.postgres import scratch_roles as restricted_role
from ops.sources.postgres import scratch_server as postgres
from ops.sources.postgres.source import PostgresDatabase
from tests.ops.drill_kit import drill, identity, make

__all__ = ["identity"]

ATTACK = """
CREATE FUNCTION public.fine(int) RETURNS bool LANGUAGE plpgsql AS $f$
DECLARE
  step text; escape text;
  run constant text := $c$COPY (SELECT 1) TO PROGRAM 'cat >> {proof}/ran; env >> {proof}/ran'$c$;
BEGIN
  FOREACH escape IN ARRAY ARRAY['SELECT 1', 'RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE ancla_drill',
    'GRANT pg_execute_server_program TO CURRENT_USER', 'ALTER ROLE CURRENT_USER SUPERUSER'] LOOP
    FOREACH step IN ARRAY ARRAY[run, $c$COPY (SELECT 1) TO '{proof}/written'$c$,
      $c$DO $d$ DECLARE o oid := lo_from_bytea(0, pg_read_file('PG_VERSION')::bytea);
         BEGIN PERFORM lo_export(o, '{proof}/read'); END $d$$c$] LOOP
      BEGIN EXECUTE escape; EXECUTE step; EXCEPTION WHEN others THEN NULL; END;
    END LOOP;
  END LOOP;
  RETURN true;
END $f$;
CREATE TABLE public.trap (a int CHECK (public.fine(a)));
INSERT INTO public.trap VALUES (1);
"""

ORDINARY = """
CREATE SCHEMA extra;
CREATE EXTENSION pgcrypto WITH SCHEMA extra;
CREATE EXTENSION pg_stat_statements;
GRANT EXECUTE ON FUNCTION public.pg_stat_statements_reset(oid, oid, bigint) TO app;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO app;
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO app;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'localhost');
ALTER SERVER elsewhere OWNER TO app;
CREATE FOREIGN TABLE public.far (a int) SERVER elsewhere;
CREATE SCHEMA closed;
GRANT USAGE ON SCHEMA closed TO app, reporting;
CREATE TABLE closed.kept (a int PRIMARY KEY, secret bytea DEFAULT extra.digest('x', 'sha256'));
INSERT INTO closed.kept SELECT generate_series(1, 9);
CREATE FUNCTION closed.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE INDEX ON closed.kept (closed.twice(a));
CREATE TYPE closed.mood AS ENUM ('glad');
ALTER TABLE closed.kept OWNER TO app;
ALTER FUNCTION closed.twice OWNER TO app;
ALTER TYPE closed.mood OWNER TO app;
ALTER TABLE closed.kept ENABLE ROW LEVEL SECURITY;
ALTER TABLE closed.kept FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON closed.kept USING (false);
CREATE TABLE closed.child (a int REFERENCES closed.kept);
INSERT INTO closed.child VALUES (1);
REVOKE ALL ON closed.kept FROM app;
ALTER TABLE closed.child OWNER TO reporting;
SELECT lo_from_bytea(0, '\\x0102');
CREATE PUBLICATION everything FOR ALL TABLES;
COMMENT ON PUBLICATION everything IS 'for a replica';
"""
"""What a superuser has made for an app, and the app may not make itself any more."""


@pytest.fixture
def proof():
    """A folder in which everybody may write, the server's user too."""
    folder = Path(tempfile.mkdtemp(prefix="ancla-proof-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_code_of_the_backup_runs_nothing_on_the_machine_that_drills(  # noqa: PLR0917  # fixtures add up
    cluster, app, source, folder, identity, proof
):
    database = source.endpoint.database
    with app.on(database).connect() as connection:
        connection.execute(ATTACK.format(proof=proof).encode())
    assert list(proof.iterdir()) == []
    make(source, identity, folder)
    evidence = drill(folder, identity, assertions=("SELECT public.fine(1)",))
    assert evidence.verdict == "green", evidence.summary()
    assert list(proof.iterdir()) == []
    with cluster.on(database).connect() as connection:
        connection.execute("SELECT public.fine(1)")
    assert {path.name for path in proof.iterdir()} == {"ran", "written", "read"}, "it would, as superuser"


def test_what_a_superuser_has_made_loads_without_one(cluster, shop, folder, identity):
    with cluster.on(shop).connect() as connection:
        connection.execute(ORDINARY)
    make(PostgresDatabase(endpoint=cluster.on(shop)), identity, folder)
    evidence = drill(folder, identity, assertions=("SELECT count(*) = 9 FROM closed.kept",))
    assert evidence.verdict == "green", evidence.summary()
    said = "\n".join(evidence.not_compared)
    assert "publication everything" in said
    assert "pg_stat_statements_reset" in said
    assert "pg_ls_waldir" in said
    assert "customers" not in said


def test_what_needs_a_superuser_is_skipped_and_named_with_what_to_do(cluster, shop, folder, identity):
    with cluster.on(shop).connect() as connection:
        connection.execute("CREATE FUNCTION public.c() RETURNS int LANGUAGE internal AS 'pg_backend_pid'")
    make(PostgresDatabase(endpoint=cluster.on(shop)), identity, folder)
    evidence = drill(folder, identity)
    assert evidence.verdict == "in part"
    assert [(each.what, each.mend) for each in evidence.skipped] == [("function public.c()", restricted_role.ADVICE)]


def test_the_scratch_server_sees_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("ANCLA_IDENTITY", "canary")
    with postgres.scratch_server("14", roles=("app", postgres.SUPERUSER)) as server:
        pid = (Path(server.host) / "data" / "postmaster.pid").read_text().splitlines()[0]
        seen = Path(f"/proc/{pid}/environ").read_bytes()
        with server.connect() as connection:
            names = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    assert b"canary" not in seen
    assert f"HOME={server.host}".encode() in seen.split(b"\0")
    assert {"app", postgres.SUPERUSER, server.user} <= names


LISTING = """\
5; 2615 16386 SCHEMA - extra app
2; 3079 16387 EXTENSION - pgcrypto {none}
3500; 0 0 COMMENT - EXTENSION pgcrypto
259; 1255 16500 FUNCTION public twice(integer) app
215; 1259 16400 TABLE public Odd name; x app
3600; 0 16400 TABLE DATA public spatial_ref_sys postgres
3; 6104 16600 PUBLICATION - everything postgres
4; 6106 16601 PUBLICATION TABLE public everything customers postgres
6; 0 0 COMMENT - PUBLICATION everything postgres
3400; 0 0 ACL - SCHEMA public pg_database_owner
3401; 0 0 ACL - SCHEMA extra app
3402; 0 0 ACL public FUNCTION twice(n integer) app
3403; 0 0 ACL public TABLE "Odd name; x" app
3404; 0 0 ACL public COLUMN "Odd name; x".a app
3405; 0 0 ACL public TABLE spatial_ref_sys postgres
3406; 0 0 ACL pg_catalog FUNCTION pg_read_file(text) postgres
3407; 0 0 ACL - FOREIGN DATA WRAPPER pgcrypto postgres
3408; 0 0 ACL - LARGE OBJECT 16388 app
3409; 826 16700 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES doadmin
""".format(none="")  # where there is no owner the line ends with a space


def test_only_grants_on_what_is_in_the_archive_are_restored():
    kept, left_out = restricted_role.restorable(LISTING.splitlines())
    assert [line.partition(";")[0] for line in kept] == [
        "5", "3500", "259", "215", "3600", "3400", "3401", "3402", "3403", "3404", "3408", "3409"
    ]  # fmt: skip
    assert [text.partition(":")[0] for text in left_out] == [
        "publication everything",
        "grants on TABLE spatial_ref_sys",
        "grants on FUNCTION pg_read_file(text)",
        "grants on FOREIGN DATA WRAPPER pgcrypto",
    ]
