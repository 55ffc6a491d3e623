"""What `ops status` says of backups and of a Docker that does not answer."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest

from ops import status
from ops.core.errors import StoreUnreachableError
from ops.repository.stores.folder import FolderStore
from ops.status import State
from tests.ops.test_watch import make_stack, put


class Silent(FolderStore):
    """A store that does not answer."""

    def list(self, prefix):
        raise StoreUnreachableError(f"{self.name}: no answer")


@pytest.fixture
def backups(monkeypatch, tmp_path):
    """Ask for the backups of `notes` and `keys` in these stores, by what each holds of `notes`: its age in hours."""
    stack = make_stack(sources=("notes", "keys"))

    def ask(*ages, silent=False):
        stores = {}
        for number, age in enumerate(ages):
            store = stores[str(number)] = FolderStore(tmp_path / str(number))
            if age is not None:
                at = datetime.now(UTC) - timedelta(hours=age)
                put(store, f"{at:%Y%m%dT%H%M%SZ}-aaaaaa", at)
        if silent:
            stores["silent"] = Silent(tmp_path / "silent")
        monkeypatch.setattr(status.destinations, "stores", lambda _: stores)
        return [(probe.name, probe.state, probe.detail) for probe in status._backups(stack)]

    return ask


def test_every_set_is_asked_for_in_every_store(backups):
    probes = backups(1, 30)
    states = [(name, state) for name, state, _ in probes]
    assert states == [
        ("notes", State.OK),
        ("keys", State.ATTENTION),
        ("notes", State.DOWN),
        ("keys", State.ATTENTION),
    ]
    assert "the budget is 26.0 h" in probes[2][2]


def test_a_backup_of_the_future_is_none(backups):
    (_, state, detail), _ = backups(-48)
    assert state is State.DOWN
    assert "dated in the future" in detail


def test_a_store_that_is_silent_does_not_hide_the_others(backups, tmp_path):
    (_, state, _), _, (name, down, detail) = backups(1, silent=True)
    assert (state, down) == (State.OK, State.DOWN)
    assert (name, "no answer" in detail) == (FolderStore(tmp_path / "silent").name, True)


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("docker", 60), FileNotFoundError(2, "No such file")])
def test_docker_that_does_not_answer_is_a_line(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(status.subprocess, "run", run)
    (*_, probe) = status._machine(make_stack())
    assert (probe.part, probe.state) == ("services", State.DOWN)
    assert probe.detail.startswith("docker: ")


def test_a_service_whose_name_begins_another_ones_is_not_mistaken_for_it():
    containers = [{"Service": "web-admin", "State": "running", "Image": "r/admin:1"}]
    web, admin = status.judge_services({"web": 1, "web-admin": 1}, containers)
    assert (web.state, web.detail) == (State.DOWN, "no container")
    assert admin.state is State.OK


@pytest.mark.parametrize(
    ("containers", "state"), [(["web", "web.2"], State.OK), (["web.2"], State.ATTENTION), (["web.3"], State.DOWN)]
)
def test_a_service_has_as_many_containers_as_instances(containers, state):
    running = [{"Service": name, "State": "running"} for name in containers]
    assert [probe.state for probe in status.judge_services({"web": 2}, running)] == [state]


def test_one_broken_database_does_not_hide_the_other_probes(monkeypatch):
    """A query that fails raises the driver's error, which is none of ours."""

    class Connection:
        def __init__(self, name):
            self.name = name

        def execute(self, query):
            if self.name == "broken":
                raise psycopg.errors.DiskFull("could not write\nto file")
            return SimpleNamespace(fetchone=lambda: ("15", "8 MB"))

    def on(name):
        return SimpleNamespace(connect=lambda: nullcontext(Connection(name)), user="app", database=name)

    stack = make_stack()
    monkeypatch.setattr(status.servers, "databases", lambda _: ["broken", "shop"])
    server = nullcontext((None, SimpleNamespace(on=on)))
    monkeypatch.setattr(status.servers, "database_server", lambda _: server)
    broken, shop = status._databases(stack)
    assert (broken.state, broken.detail) == (State.DOWN, "DiskFull: could not write to file")
    assert (shop.name, shop.state) == ("shop", State.OK)


def test_a_defect_in_one_part_does_not_hide_the_others(monkeypatch):
    def broken(_):
        raise KeyError("x")

    monkeypatch.setattr(status, "_machine", broken)
    monkeypatch.setattr(status, "_backups", lambda _: [])
    monkeypatch.setattr(status, "_address", lambda _: [status.Probe(part="a", name="b", state=State.OK, detail="")])
    first, second = status.probe_stack(make_stack())
    assert (first.part, first.state, second.state) == ("droplet", State.DOWN, State.OK)
