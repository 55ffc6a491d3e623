from __future__ import annotations

import pytest

from ops.backup.run import BackupJob, create
from ops.drill import report
from ops.drill.damage import CAUGHT_BY, Damage
from ops.drill.evidence import Status
from ops.drill.run import DrillJob, run


def silent(text):
    pass


@pytest.fixture
def backup(source, folder):
    return create(
        BackupJob(environment="staging", project="test", name="shop", source=source, stores=(folder,)), silent
    )


def drill(folder, **more):
    return run(
        DrillJob(
            environment="staging",
            project="test",
            name="shop",
            store=folder,
            max_age_hours=26,
            rto_minutes=15,
            **more,
        ),
        silent,
    )


def test_a_sound_backup_is_green_and_every_question_was_asked(backup, folder):
    evidence = drill(folder)
    assert evidence.summary() == ""
    assert evidence.verdict == "green"
    assert {check.status for check in evidence.checks} == {Status.PASSED}
    assert evidence.rows == 4552
    assert all(table.equal for table in evidence.tables)
    assert report.render(evidence).count('class="phase"') == len(evidence.phases)


@pytest.mark.parametrize("kind", list(Damage))
def test_each_damage_turns_the_check_red_that_is_there_for_it(backup, folder, kind):
    evidence = drill(folder, damage=kind)
    assert evidence.verdict == "red"
    assert CAUGHT_BY[kind] in {check.name for check in evidence.red}
    assert drill(folder).verdict == "green", "the original was touched"
