"""`swap` killed at every step: no data is lost, the same command finishes it, and `undo` takes it back."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from ops.core.errors import RestoreRefusedError
from ops.restore import swap
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops import killed

SEED = int(os.environ["ANCLA_SEED"])
MADE = "ancla: restore of 20261123T000000Z-aaaaaa (shop) begun 2026-11-23T00:10:00Z, verified"
OWN = "the shop,\nours since 2019"
"""The comment of a person."""


def promote(cluster, copy="shop_copy"):
    swap.run(cluster, swap.plan_promote(cluster, "shop", copy, datetime.now(UTC)), silent)


def undo(cluster):
    swap.run(cluster, swap.plan_undo(cluster, "shop"), silent)


@pytest.fixture
def ways(admin, app):
    return swap.Cluster(admin=admin, owner=app)


@pytest.fixture
def both(shop, cluster, admin):
    """`shop` has a row "old" and `shop_copy`, which a restore is said to have verified, a row "new"."""
    with admin.connect() as connection:
        connection.execute("CREATE DATABASE shop_copy TEMPLATE template0")
        connection.execute(f"COMMENT ON DATABASE shop_copy IS '{MADE}'")
    with cluster.connect() as connection:
        connection.execute(f"COMMENT ON DATABASE shop IS '{OWN}'")
    for name, word in (("shop", "old"), ("shop_copy", "new")):
        with cluster.on(name).connect() as connection:
            connection.execute("CREATE TABLE public.word (word text)")
            connection.execute("INSERT INTO public.word VALUES (%s)", [word])
    return cluster


def databases(cluster):
    """What is there: its name, its word, its comment. Also those that let nobody in."""
    found = {}
    with cluster.connect() as connection:
        query = "SELECT datname, datallowconn, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
        rows = connection.execute(f"{query} WHERE datname LIKE 'shop%'").fetchall()
    for name, is_open, comment in rows:
        found[name] = (word_in(cluster, name) if is_open else "closed", comment)
    return found


def word_in(cluster, name):
    with cluster.on(name).connect() as connection:
        return connection.execute("SELECT word FROM public.word").fetchone()[0]


def words(cluster):
    return {name: word for name, (word, _) in databases(cluster).items()}


def quiet(cluster):
    with cluster.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'shop%' AND usesysid IS NOT NULL"
        eventually(lambda: connection.execute(query).fetchone() == (0,))


def is_as_before(cluster):
    found = databases(cluster)
    assert {name: word for name, (word, _) in found.items()} == {"shop": "old", "shop_copy": "new"}
    assert found["shop"][1] == OWN


def is_promoted(cluster):
    found = databases(cluster)
    assert found["shop"][0] == "new"
    assert found["shop"][1].startswith("ancla: restored from 20261123T000000Z-aaaaaa, live since ")
    (before,) = found.keys() - {"shop"}
    assert before.startswith("shop_before_")
    assert found[before][0] == "old"
    assert found[before][1].endswith(f"replaced by shop_copy; its comment was: {OWN}")


def anew(cluster):
    """Put the beginning back, whatever the comments say."""
    quiet(cluster)
    found = words(cluster)
    with cluster.connect() as connection:
        for name, word in sorted(found.items(), key=lambda item: item[0] != "shop"):
            aside = "shop_aside" if word == "old" else "shop_copy"
            if name != aside:
                connection.execute(f"ALTER DATABASE {name} RENAME TO {aside}")
        connection.execute("ALTER DATABASE shop_aside RENAME TO shop")
        connection.execute(f"COMMENT ON DATABASE shop IS '{OWN}'")
        connection.execute(f"COMMENT ON DATABASE shop_copy IS '{MADE}'")


def kill(work, ways, at):
    """Kill it before a step, or see it end before that: a session that ends slowly takes steps of its own."""
    code, steps = killed.run(work, ways, at=at)
    assert code == -9 or (code == 0 and len(steps) <= at), steps
    return steps


def kill_promote(points, cluster, ways):
    for at in points:
        for finish in (promote, undo):
            steps = kill(promote, ways, at)
            quiet(cluster)
            here = f"killed before step {at} ({steps[-1]}), then {finish.__name__} (ANCLA_SEED={SEED})"
            assert len(words(cluster)) == 2, here
            if finish is promote and databases(cluster).get("shop", ("", ""))[1].startswith("ancla: restored"):
                is_promoted(cluster)  # it was at its end: there is nothing to finish
            elif finish is undo and words(cluster) == {"shop": "old", "shop_copy": "new"}:
                try_undo_of_nothing(cluster, ways)
            else:
                finish(ways)
                (is_promoted if finish is promote else is_as_before)(cluster)
            anew(cluster)


def try_undo_of_nothing(cluster, ways):
    """Nothing was renamed: either it had not begun, or it takes back what it had said it would do."""
    try:
        undo(ways)
    except RestoreRefusedError as error:
        assert "nothing to undo" in str(error)  # noqa: PT017 - it depends on the step
    is_as_before(cluster)


def kill_undo(points, cluster, ways):
    for at in points:
        promote(ways)
        kill(undo, ways, at)
        quiet(cluster)
        assert len(words(cluster)) == 2
        try_undo_of_nothing(cluster, ways) if words(cluster) == {"shop": "old", "shop_copy": "new"} else undo(ways)
        is_as_before(cluster)
        anew(cluster)


def steps_of(work, cluster, ways):
    if work is undo:
        promote(ways)
    code, steps = killed.run(work, ways)
    assert code == 0
    anew(cluster)
    assert sum("RENAME TO" in step for step in steps) == 2, steps
    return len(steps)


def test_a_swap_killed_at_some_steps_is_finished_by_itself_and_taken_back_by_undo(both, cluster, ways):
    print(f"ANCLA_SEED={SEED}")
    kill_promote(killed.sample(steps_of(promote, cluster, ways), SEED, 1), cluster, ways)


def test_an_undo_killed_at_some_steps_is_finished_by_itself(both, cluster, ways):
    print(f"ANCLA_SEED={SEED}")
    kill_undo(killed.sample(steps_of(undo, cluster, ways), SEED, 1), cluster, ways)


@pytest.mark.all
def test_a_swap_killed_at_every_step_is_finished_by_itself_and_taken_back_by_undo(both, cluster, ways):
    kill_promote(range(steps_of(promote, cluster, ways)), cluster, ways)


@pytest.mark.all
def test_an_undo_killed_at_every_step_is_finished_by_itself(both, cluster, ways):
    kill_undo(range(steps_of(undo, cluster, ways)), cluster, ways)


def test_while_the_live_name_is_gone_another_copy_may_take_it_and_an_unverified_one_may_not(both, cluster, ways, admin):
    with admin.connect() as connection:
        connection.execute("CREATE DATABASE shop_other TEMPLATE shop_copy")
    quiet(cluster)
    assert killed.run(promote, ways, at=live_was_renamed)[0] == -9
    quiet(cluster)
    assert "shop" not in words(cluster)
    with pytest.raises(RestoreRefusedError, match="no restore has verified it"):
        promote(ways, "shop_other")
    with admin.connect() as connection:
        connection.execute(f"COMMENT ON DATABASE shop_other IS '{MADE}'")
    promote(ways, "shop_other")
    assert words(cluster)["shop"] == "new"
    undo(ways)
    assert words(cluster) == {"shop": "old", "shop_copy": "new", "shop_other": "new"}


def live_was_renamed(step):
    """Not by its number: a session that ends slowly takes steps before it."""
    return 'ALTER DATABASE "shop_before_' in step and "ALLOW_CONNECTIONS true" in step
