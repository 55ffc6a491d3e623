"""Two runs at once, and backups of a newer Ancla: each is told, and does no harm to the other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ops.backup.prune import make_plan
from ops.backup.verify import VerifyJob, verify
from ops.core.errors import ManifestError, RestoreError, RestoreRefusedError
from ops.repository import catalog
from ops.repository.age import read_identities
from ops.repository.freshness import look
from ops.repository.manifest import MANIFEST_NAME
from ops.repository.stores.folder import FolderStore
from ops.sources.postgres import target
from tests.kits.messages import silent
from tests.ops import killed, prune_kit
from tests.ops.drill_kit import backup, drill, identity, make
from tests.ops.restore_kit import RestoreJob, run
from tests.ops.test_restore import comment_of

__all__ = ["backup", "identity"]


@pytest.fixture
def job(backup, folder, admin, app, identity):
    def build(target=None):
        facts = {"store": folder, "manifest": backup, "admin": admin, "owner": app, "live": ("shop",)}
        return RestoreJob(**facts, identities=read_identities(identity), target=target)

    return build


def test_a_second_restore_into_the_same_new_name_is_refused_and_the_first_is_whole(job, admin, monkeypatch):
    real, refusals = target.restore_archive, []

    def both(*arguments, **more):
        if not refusals:
            with pytest.raises(RestoreRefusedError, match=r"shop_one: .*not finished\): drop it when no restore") as no:
                run(job("shop_one"), silent)
            refusals.append(no)
        return real(*arguments, **more)

    monkeypatch.setattr(target, "restore_archive", both)
    assert run(job("shop_one"), silent).skipped == []
    assert refusals
    assert comment_of(admin, "shop_one").endswith("verified")


def restore_when_ready(job, ready, ended):
    def wait(text, *more):
        if text.startswith("fetching"):
            ready.wait()

    try:
        run(job, wait)
    except (RestoreError, RestoreRefusedError) as error:
        ended.put(str(error))
    else:
        ended.put("equal")


def at_once(work, *arguments):
    """Do it in two processes of their own; returns what each of them has put."""
    ended = killed.processes.Queue()
    running = [killed.processes.Process(target=work, args=(*arguments, ended)) for _ in range(2)]
    for process in running:
        process.start()
    found = [ended.get(timeout=120) for _ in running]
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    return found


def test_of_two_restores_that_begin_in_the_same_moment_one_makes_the_database(backup, job, admin, identity, source):
    """Both have looked, and seen no such database."""
    plain = make(source, identity, job().store, name="plain", recipients=())
    given = replace(job("shop_one"), manifest=plain, identities=())  # an identity goes into no other process
    ended = at_once(restore_when_ready, given, killed.processes.Barrier(2, timeout=60))
    (red,) = (text for text in ended if text != "equal")
    assert "cannot create the database shop_one" in red
    assert "already exists" in red
    assert comment_of(admin, "shop_one").endswith("verified")


def drill_alone(root, identity, ended):
    ended.put(drill(FolderStore(root), identity, signer=None).verdict)


def test_two_drills_at_once_have_a_scratch_each(backup, folder, identity):
    assert at_once(drill_alone, folder.root, identity) == ["green", "green"]


@pytest.fixture
def newer(folder, source, identity):
    """Two backups, of which the later has a manifest of version 2; returns their ids and what makes it ours again."""
    ids = [make(source, identity, folder).id for _ in range(2)]
    older, later = sorted(ids)
    key = catalog.prefix_of("shop", later) + MANIFEST_NAME
    with folder.open(key) as body:
        raw = body.read()
    folder.put_bytes(key, json.dumps(json.loads(raw) | {"manifest_version": 2, "news": []}).encode())
    return older, later, lambda: folder.put_bytes(key, raw)


def test_a_backup_of_a_newer_version_is_named_by_all_and_taken_for_nothing(newer, folder, identity):
    older, later, put_right = newer
    says = "manifest is of version 2, these tools read 1; use the Ancla that made it"
    with pytest.raises(ManifestError, match=says):
        catalog.find(folder, "shop")
    assert catalog.find(folder, "shop", older).id == older
    (fresh,) = look(folder, ["shop"], budget_hours=26, signer=None, now=datetime.now(UTC))
    assert (fresh.backup, fresh.fresh) == (older, True)
    assert says in str(fresh)
    evidence = drill(folder, identity)
    assert evidence.verdict == "red"
    assert says in evidence.summary()
    assert any(says in problem for problem in verify(VerifyJob(store=folder), datetime.now(UTC), silent).problems)
    project = catalog.find(folder, "shop", older).project
    policy = prune_kit.LEAST.model_copy(update={"keep_last": 1})
    given = prune_kit.job(folder, policy=policy, project=project)
    plan = make_plan(given, datetime.now(UTC) + timedelta(days=9))
    assert plan.doomed == []
    assert [(backup, says in what) for backup, what in plan.problems.items()] == [(later, True)]
    put_right()
    assert catalog.find(folder, "shop").id == later
    assert drill(folder, identity).verdict == "green"
    assert verify(VerifyJob(store=folder), datetime.now(UTC), silent).problems == []
    plan = make_plan(given, datetime.now(UTC) + timedelta(days=9))
    assert len(plan.doomed) == 1
    assert plan.problems == {}
