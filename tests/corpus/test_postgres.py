"""Odd PostgreSQL databases, listed and generated, each through backup, drill and restore: see `postgres_kit`."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from ops.repository.stores.folder import FolderStore
from tests.corpus.generate_postgres import databases
from tests.corpus.postgres_kit import Roles, assert_named, create, fill, hold_to_the_rules
from tests.ops.drill_kit import identity
from tests.ops.pg_server import as_role

__all__ = ["identity"]

CASES = sorted((Path(__file__).parent / "postgres").glob("*.sql"))
SEED = int(os.environ["ANCLA_SEED"])
FEW, MANY = 3, 100
"""How many databases are generated in each run, and in the long one."""
DRAWN = set(random.Random(SEED).sample(CASES, 4))
"""The listed ones of each run; the long one has all."""

_numbers = itertools.count()


def parameters():
    for path in CASES:
        marks = [] if path in DRAWN else [pytest.mark.all]
        yield pytest.param(path.read_text(), id=path.stem, marks=marks)


@pytest.fixture
def roles(cluster):
    yield Roles(superuser=cluster, doadmin=as_role(cluster, "doadmin"), app=as_role(cluster, "app"))
    with cluster.connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'odd%'").fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def through(roles, script, folder, identity):
    name = f"odd{next(_numbers)}"
    create(roles, name)
    fill(roles.on(name), script)
    hold_to_the_rules(roles, name, FolderStore(folder / name), identity)


@pytest.mark.parametrize("script", list(parameters()))
def test_an_odd_database_holds_the_four_rules(roles, script, tmp_path, identity):
    through(roles, script, tmp_path, identity)


def generated(count):
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a failing script is printed, and short enough
        suppress_health_check=list(HealthCheck),
    )


@seed(SEED)
@generated(FEW)
@given(script=databases())
def test_a_few_generated_databases_hold_the_four_rules(roles, tmp_path, identity, script):
    print(f"ANCLA_SEED={SEED}, {FEW} databases")
    through(roles, script, tmp_path, identity)


@pytest.mark.all
@pytest.mark.timeout(3000)
@seed(SEED)
@generated(MANY)
@given(script=databases())
def test_a_hundred_generated_databases_hold_the_four_rules(roles, tmp_path, identity, script):
    print(f"ANCLA_SEED={SEED}, {MANY} databases")
    through(roles, script, tmp_path, identity)


def test_what_is_lost_and_not_named_is_seen():
    """The negative control of the comparison."""
    expected = {("t", "TABLE", "public", "app"): "CREATE", ("v", "VIEW", "public", "app"): "CREATE"}
    assert_named(expected, expected, [])
    assert_named(expected, {}, ["t: left out", "v: left out"])
    with pytest.raises(AssertionError, match="is lost and not named"):
        assert_named(expected, {}, ["t: left out"])
