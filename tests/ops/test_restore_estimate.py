"""How long a restore may take: by the last drill of the same, else by a rate that is named as assumed."""

from __future__ import annotations

import json

import pytest

from ops.restore.estimate import ASSUMED_RATE, estimate
from tests.ops.test_manifest import manifest

BEGUN = "2026-01-01T00:00:00Z"


@pytest.fixture
def drilled(tmp_path):
    made = manifest()
    evidence = {
        "environment": made.environment,
        "project": made.project,
        "name": made.name,
        "damage": None,
        "backup": made.id,
        "finished_at": BEGUN,
        "rto_seconds": 60.0,
        "stored_bytes": 1 << 20,
        "detail": {"source": made.source.kind},
    }

    def leave(file, **more):
        (tmp_path / f"{file}.json").write_text(json.dumps(evidence | more))

    return leave


def asked(folder, made=None, *, stored=2 << 20, dumped=10 * ASSUMED_RATE):
    return estimate(made or manifest(), folder, stored=stored, dumped=dumped)


def test_without_a_drill_the_rate_is_assumed_and_says_so(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        found = asked(folder)
        assert found.seconds == 10
        assert "40.0 MiB/s, an assumed rate: no drill of " in found.basis
    assert str(found).startswith("about 10 s (400.0 MiB at ")


def test_a_drill_of_the_same_counts_by_its_bytes(tmp_path, drilled):
    drilled("one")
    found = asked(tmp_path)
    assert found.seconds == 120
    assert found.basis == f"the drill of 2026-01-01 00:00 UTC took 60 s for 1.0 MiB of {manifest().id}"
    assert found.facts == {"estimated_seconds": 120.0, "estimate_basis": found.basis}


def test_this_backups_own_drill_counts_before_a_later_one_of_another_and_that_before_an_older(tmp_path, drilled):
    drilled("other", backup="20260101T000000Z-aaaaaa", finished_at="2026-03-01T00:00:00Z", rto_seconds=10)
    drilled("older", backup="20260101T000000Z-bbbbbb", finished_at="2026-02-01T00:00:00Z", rto_seconds=20)
    assert asked(tmp_path).seconds == 20
    drilled("own")
    assert asked(tmp_path).seconds == 120


@pytest.mark.parametrize(
    "more",
    [
        {"name": "another"},
        {"environment": "prod-2"},
        {"detail": {"source": "bucket"}},
        {"damage": "flip"},
        {"rto_seconds": None},
        {"stored_bytes": 0},
        {"finished_at": "2026-01-01T00:00:00"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_says_nothing_of_it_is_passed_over(tmp_path, drilled, more):
    drilled("one", **more)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "none.json").write_text("{")
    assert "assumed" in asked(tmp_path).basis


def test_an_incremental_one_is_measured_by_its_own_drill_alone(tmp_path, drilled):
    made = manifest().model_copy(update={"depends_on": ("20260101T000000Z-cccccc",)})
    drilled("other", backup="20260101T000000Z-aaaaaa")
    assert "assumed" in asked(tmp_path, made).basis
    drilled("own")
    assert asked(tmp_path, made).seconds == 60
