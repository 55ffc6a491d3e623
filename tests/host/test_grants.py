from __future__ import annotations

from host.documents import DatabaseGrants
from host.grants import build_sql, literal, quoted


def database(**changes: object) -> DatabaseGrants:
    values = {
        "private_host": "private-db.example.org",
        "port": 25060,
        "admin_user": "doadmin",
        "admin_password": "CANARY",
        "ca_certificate": "PEM",
        "databases": ("app", "reports"),
        "user": "app",
    }
    return DatabaseGrants.model_validate(values | changes)


def test_each_database_is_closed_to_all_and_opened_to_the_apps_role():
    sql = build_sql(database())
    for name in ("app", "reports"):
        assert f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC;' in sql
        assert f'GRANT CONNECT, TEMPORARY ON DATABASE "{name}" TO "app";' in sql
    assert sql.count('GRANT USAGE, CREATE ON SCHEMA public TO "app";') == 2
    assert sql.count("BEGIN;") == sql.count("COMMIT;") == 2


def test_the_second_database_is_reached_over_the_same_login():
    sql = build_sql(database())
    assert '\\connect "reports"' in sql
    assert '\\connect "app"' not in sql


def test_extensions_are_created_in_each_database_before_the_grants():
    sql = build_sql(database(extensions=("uuid-ossp", "vector")))
    created = 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp" CASCADE;\nCREATE EXTENSION IF NOT EXISTS "vector" CASCADE;\n'
    assert sql.count(f"{created}BEGIN;") == 2
    assert "CREATE EXTENSION" not in build_sql(database())


def test_the_password_is_not_in_the_sql():
    assert "CANARY" not in build_sql(database())


def test_names_are_quoted():
    assert quoted('a"b') == '"a""b"'
    assert literal("a'b") == "'a''b'"
