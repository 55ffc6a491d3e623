from __future__ import annotations

import pytest

from ops.core.errors import SourceError
from ops.sources.postgres.source import PostgresDatabase, catalog_queries


@pytest.fixture
def facts(app, shop):
    """Fingerprint one table of the shop by name."""

    def read(name, as_record=None):
        with app.on(shop).connect() as connection:
            catalog_queries.prepare_session(connection)
            (table,) = [t for t in catalog_queries.tables(connection) if t.name == name]
            return catalog_queries.fingerprint(
                connection, table, as_record=table.hashable if as_record is None else as_record
            )

    return read


def run(app, shop, *statements):
    with app.on(shop).connect() as connection:
        connection.execute("SET search_path TO public")
        for statement in statements:
            connection.execute(statement)


def test_the_hash_does_not_depend_on_the_order_of_rows(app, shop, facts):
    run(app, shop, "CREATE TABLE a (x int, y text)", "CREATE TABLE b (x int, y text)")
    run(app, shop, "INSERT INTO a VALUES (1, 'one'), (2, 'two')", "INSERT INTO b VALUES (2, 'two'), (1, 'one')")
    assert facts("public.a").hash == facts("public.b").hash


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE orders SET total = total + 0.01 WHERE id = (SELECT min(id::text)::uuid FROM orders)",
        "UPDATE orders SET note = NULL WHERE id = (SELECT min(id::text)::uuid FROM orders)",
    ],
)
@pytest.mark.parametrize(("as_record", "method"), [(True, "record"), (False, "text")])
def test_one_changed_cell_changes_the_hash_and_not_the_count(app, shop, facts, change, as_record, method):  # noqa: PLR0917
    before = facts("public.orders", as_record)
    run(app, shop, change)
    after = facts("public.orders", as_record)
    assert (before.method, before.rows) == (method, after.rows)
    assert before.hash != after.hash


def test_types_whose_hash_is_of_their_oid_are_hashed_as_text(facts):
    assert facts("public.customers").method == "text", "an enum column hashes by its OID, another one after a restore"
    assert facts("public.orders").method == "record"


def test_a_column_called_like_our_alias_is_no_trap(facts):
    assert facts("public.Odd name; x").rows == 2


def test_rows_that_a_policy_hides_are_an_error_and_not_missed(admin, app, shop):
    run(app, shop, "ALTER TABLE orders ENABLE ROW LEVEL SECURITY", "ALTER TABLE orders FORCE ROW LEVEL SECURITY")
    run(app, shop, "CREATE POLICY visible ON orders USING (total > 100)")
    with pytest.raises(SourceError, match="row-level security"):
        PostgresDatabase(endpoint=app.on(shop)).fingerprint()


def test_what_cannot_be_compared_is_named(source):
    record = source.fingerprint()
    assert record.not_compared == ("public.counted: materialized view, filled again by a restore",)
    assert "public.counted" not in {table.table for table in record.tables}


def test_a_sequence_behind_the_backup_is_a_difference_and_one_ahead_is_not(app, shop, source):
    before = source.fingerprint()
    run(app, shop, "SELECT nextval('customers_id_seq')")
    assert source.check(before) == []
    after = source.fingerprint()
    run(app, shop, "SELECT setval('customers_id_seq', 3)")
    assert [str(d) for d in source.check(after)] == ["public.customers_id_seq: found at 3, expected at 501"]


def test_large_objects_are_compared(app, shop, source):
    before = source.fingerprint()
    run(app, shop, "SELECT lo_put((SELECT oid FROM pg_largeobject_metadata LIMIT 1), 0, 'x')")
    (difference,) = source.check(before)
    assert difference.what == "(large objects)"
