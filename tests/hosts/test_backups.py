"""Backups of the running stack, as a person at a desk makes, restores and drills them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from blueprint.outputs import OutputSecrets
from tests.hosts.staging import Staging

pytestmark = [pytest.mark.hosts, pytest.mark.containers]
CONTENT = "SELECT count(*), md5(string_agg(v::text, '|' ORDER BY v::text)) FROM visits v"


def query(staging: Staging, database: str, sql: str) -> str:
    """Ask PostgreSQL inside the cluster's own container, past everything that is being tested."""
    done = subprocess.run(
        [
            "docker",
            "exec",
            "-i",
            "-u",
            "postgres",
            staging.container("database"),
            "psql",
            "-qAtX",
            "-p",
            "25060",
            "-d",
            database,
        ],
        input=sql,
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def backup(staging: Staging) -> dict[str, object]:
    query(staging, "app", "INSERT INTO visits (visitor) SELECT 'visitor ' || n FROM generate_series(1, 2000) n")
    return json.loads(staging.ops("backup", "create", "--json").stdout)


def test_rows_deleted_after_a_backup_come_back_equal_in_a_new_database(
    staging: Staging, backup: dict[str, object]
) -> None:
    before = query(staging, "app", CONTENT)
    query(staging, "app", "DELETE FROM visits WHERE id % 2 = 0")
    damaged = query(staging, "app", CONTENT)
    assert damaged != before

    staging.ops("restore", "--into", "came_back", "--json")

    assert query(staging, "came_back", CONTENT) == before
    assert query(staging, "app", CONTENT) == damaged, "live is not touched"
    refused = staging.ops("restore", "--into", "came_back", check=False)
    assert refused.returncode != 0
    assert "came_back" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    query(staging, "postgres", "DROP DATABASE came_back")


def test_a_drill_of_it_is_green_and_keeps_its_evidence(
    staging: Staging, backup: dict[str, object], tmp_path: Path
) -> None:
    staging.ops("drill", "--evidence", str(tmp_path))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} >= {".json", ".html"}


@pytest.mark.parametrize("damage", ["flip", "missing", "manifest", "rows", "stale"])
def test_a_drill_of_a_damaged_copy_is_red_and_says_what(
    staging: Staging, backup: dict[str, object], tmp_path: Path, damage: str
) -> None:
    done = staging.ops("drill", "--name", "app", "--damage", damage, "--evidence", str(tmp_path), check=False)

    assert done.returncode == 3
    words = {"flip": "sha256", "missing": "missing", "manifest": "manifest", "rows": "rows", "stale": "old"}
    assert words[damage] in (done.stdout + done.stderr).lower(), done.stdout + done.stderr


def test_a_backup_of_a_stack_whose_key_is_wrong_is_one_line(staging: Staging, tmp_path: Path) -> None:
    # Past `run`, which keeps what is printed: what a person asks to see with --show-secrets is no leak.
    shown = ("stack", "output", "--json", "--show-secrets")
    raw = json.loads(staging.work.pulumi("reading the outputs", *shown, quiet=True))
    assert isinstance(staging.outputs.secrets, OutputSecrets)
    raw["secrets"]["backup_keys"]["spaces"]["secret_key"] = "not-the-key"
    outputs = tmp_path / "outputs.json"
    outputs.write_text(json.dumps(raw))
    outputs.chmod(0o600)

    done = staging.run("python", "-m", "ops", "backup", "list", "--outputs", str(outputs), check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
