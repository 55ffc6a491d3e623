"""`backup.tables` of the stack file: from the settings to the manifest, and back into a database."""

from __future__ import annotations

import json

import pytest

from blueprint.outputs import parse_outputs
from blueprint.settings.backup import BackupSettings
from tests.ops.test_cli import ops, outputs, refused, write

__all__ = ["ops", "outputs"]


@pytest.fixture
def filtered(ops, outputs, cluster, tmp_path):
    """Back up with filters by name, of the cluster's database and of a source; gives the file of outputs."""

    def build(**tables):
        settings = BackupSettings.model_validate({"tables": tables})
        kept = {"destinations", "retention", "recipients", "vault", "buckets", "sources", "signers"}
        outputs["backup"] |= settings.model_dump(mode="json", by_alias=False, exclude=kept)
        outputs["backup"]["sources"] = [
            {"kind": "postgresql", "name": "own", "host": "localhost", "port": cluster.port, "database": "shop"}
            | {"user": "app", "password": "PG_PASSWORD"}
        ]
        outputs["secrets"]["app"] = {"PG_PASSWORD": outputs["secrets"]["database_password"]}
        parse_outputs(outputs)
        return write(tmp_path, outputs)

    return build


@pytest.mark.long
def test_from_the_stack_file_to_the_manifest_and_back_into_a_database(ops, filtered):
    file = filtered(shop={"include": ["public.*"], "exclude": ["public.events_*"]}, own={"exclude": ["audit.log"]})
    assert ops("backup", "create", "--outputs", file).returncode == 0
    own = json.loads(ops("backup", "show", "--name", "own", "--outputs", file, "--json").stdout)["source"]
    assert (own["only_tables"], own["without_tables"]) == ([], ["audit.log"])
    assert {t["table"]: t["rows"] for t in own["tables"]} == {
        "audit.log": 0,
        "public.Odd name; x": 2,
        "public.customers": 500,
        "public.empty": 0,
        "public.events": 1000,
        "public.orders": 3000,
    }
    assert ops("backup", "show", "--outputs", file).stdout.count("left out") == 4  # in the table, and by name
    planned = json.loads(ops("restore", "--outputs", file, "--dry-run", "--json").stdout)
    assert planned["left_empty"] == ["audit.log", "public.events"]
    done = ops("restore", "--outputs", file)
    assert done.returncode == 0, done.stderr
    assert "not restored: rows of audit.log, public.events" in " ".join(done.stdout.split())


def test_a_filter_that_a_foreign_key_crosses_stops_the_backup_with_its_name(ops, filtered):
    file = filtered(shop={"exclude": ["public.customers"]})
    refused(ops("backup", "create", "--name", "shop", "--outputs", file), "orders_customer_fkey", "backup.tables")


def test_a_drill_is_equal_and_names_what_was_left_out(ops, filtered, tmp_path):
    file = filtered(shop={"exclude": ["audit.log"]})
    given = ("--name", "shop", "--outputs", file)
    assert ops("backup", "create", *given).returncode == 0
    drilled = ops("drill", *given, "--evidence", tmp_path / "evidence")
    assert drilled.returncode == 0, drilled.stderr
    (document,) = (tmp_path / "evidence").glob("*T*.json")
    evidence = json.loads(document.read_bytes())
    assert "audit.log: rows left out by the stack file" in evidence["not_compared"]
    assert {"audit.log", "public.orders"} <= {table["table"] for table in evidence["detail"]["tables"]}
