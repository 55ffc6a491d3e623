"""Drills and retention killed with -9 at a step, in a process of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ops.drill import workdir
from ops.drill.runner import run
from ops.repository.stores.folder import FolderStore
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops import killed, prune_kit
from tests.ops.drill_kit import backup, drill, identity, job
from tests.ops.test_drill import servers
from tests.ops.test_prune import before, complete_ones_are_whole, straight

__all__ = ["backup", "before", "identity", "straight"]

SEED = int(os.environ["ANCLA_SEED"])


@pytest.fixture
def spool():
    """Short enough for a socket's path, and open to the scratch server's user."""
    folder = Path(tempfile.mkdtemp(prefix="anc-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def drill_alone(root, identity, spool):
    assert run(job(FolderStore(root), identity, spool=spool, signer=None), silent).verdict == "green"


def kill_drill_at(chosen, root, identity, spool):
    arguments = (drill_alone, root, identity, spool)
    code, steps = killed.run(*arguments, watched=[spool])
    assert code == 0
    assert any("pg_restore" in step for step in steps)
    deadly = 0
    for at in chosen(len(steps)):
        code, steps = killed.run(*arguments, at=at, watched=[spool], seed=SEED)
        deadly += code == -9  # how many steps there are is not always the same
        eventually(lambda: not servers(spool))
        for path in spool.glob("*"):
            os.utime(path, (0, 0))  # one that was killed before it locked its folder leaves it for a while
        workdir.sweep(spool)
        assert list(spool.iterdir()) == [], f"killed before step {at}, {steps[-1]} (ANCLA_SEED={SEED})"
    assert deadly


@pytest.mark.long
def test_a_drill_killed_at_some_step_leaves_no_server_and_nothing_a_sweep_does_not_remove(
    backup, folder, identity, spool
):
    print(f"ANCLA_SEED={SEED}")
    kill_drill_at(lambda count: killed.sample(count, SEED, 1), folder.root, identity, spool)
    assert drill(folder, identity, spool=spool).verdict == "green", "the next one is as if nothing had been"


@pytest.mark.all
@pytest.mark.timeout(1500)
def test_a_drill_killed_at_every_step_leaves_no_server_and_nothing_a_sweep_does_not_remove(
    backup, folder, identity, spool
):
    kill_drill_at(range, folder.root, identity, spool)


def prune_alone(root):
    prune_kit.prune(FolderStore(root))


def kill_prune_at(chosen, tmp_path, before, straight):
    def begin(name):
        return Path(shutil.copytree(before, tmp_path / name))

    code, steps = killed.run(prune_alone, root := begin("whole"), watched=[root])
    assert code == 0
    assert sum(step.startswith("os.remove") for step in steps) > 12
    for at in chosen(len(steps)):
        root = begin(str(at))
        assert killed.run(prune_alone, root, at=at, watched=[root])[0] == -9
        complete_ones_are_whole(FolderStore(root))
        prune_alone(root)
        assert prune_kit.keys(FolderStore(root)) == straight[1], f"killed before step {at} (ANCLA_SEED={SEED})"


def test_a_prune_killed_at_some_step_leaves_no_torn_backup_and_the_next_ends_it(tmp_path, before, straight):
    print(f"ANCLA_SEED={SEED}")
    kill_prune_at(lambda count: killed.sample(count, SEED, 3), tmp_path, before, straight)


@pytest.mark.all
def test_a_prune_killed_at_every_step_leaves_no_torn_backup_and_the_next_ends_it(tmp_path, before, straight):
    kill_prune_at(range, tmp_path, before, straight)
