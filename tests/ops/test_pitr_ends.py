"""A fork ends, whatever happens: errors, silence, signals, kills; and the sweep takes nothing else."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ops.core.errors import CloudError, RestoreRefusedError
from ops.drill.evidence.document import Status
from ops.drill.kinds import provider_fork
from ops.drill.runner import run
from ops.managed_postgres import forks
from ops.managed_postgres.forks import TAG
from tests.ops.pitr_kit import QUICK, api, as_users, audit, begun, cloud, done, fault, job, live_of, names, ops, outputs

__all__ = ["api", "cloud", "job", "ops", "outputs"]


def test_a_fork_that_does_not_come_online_is_red_and_destroyed(api, job):
    gate = api.parts.gate["databases.contents"] = threading.Event()
    evidence = run(replace(job, wait_minutes=0), print)
    gate.set()
    assert "still creating after" in evidence.summary()
    assert names(api) == ["shop-db"]


def test_a_fork_that_cannot_be_reached_is_red_and_destroyed(api, job, cluster, shop):
    @contextmanager
    def closed(*_):
        raise CloudError("no way there")
        yield

    evidence = run(replace(job, open_live=as_users(cluster), open_fork=closed), print)
    assert "no way there" in evidence.summary()
    assert {check.name for check in evidence.checks if check.status is Status.SKIPPED} >= {"identity", "schema"}
    assert names(api) == ["shop-db"]


def test_an_error_of_ours_destroys_the_fork_too(api, job):
    def broken(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(replace(job, open_live=broken), print)
    assert names(api) == ["shop-db"]


def test_a_fork_whose_creation_nobody_answered_is_found_by_its_name_and_destroyed(api, job):
    fault(api, match={"method": "POST", "path": "^/v2/databases$"}, when="after_commit", do="drop")
    with pytest.raises(CloudError, match="no answer"):
        run(job, print)
    assert names(api) == ["shop-db"]
    assert [what for what, spec in api.parts.calls if what == "databases.apply" and spec.restore]


def test_a_refused_fork_is_not_waited_for(api, job):
    fault(api, match={"method": "POST", "path": "^/v2/databases$"}, do="status", status=422, body={"message": "limit"})
    with pytest.raises(CloudError, match="422 limit"):
        run(job, print)
    assert names(api) == ["shop-db"]


def test_a_fork_is_asked_to_go_until_it_is_gone(api, job):
    evidence = []
    for nth in (1, 2, 3):
        fault(api, match={"method": "DELETE", "path": "/v2/databases/", "nth": nth}, do="status", status=503)
    api.parts.gate["databases.contents"] = gate = threading.Event()
    evidence.append(run(replace(job, wait_minutes=0), print))
    gate.set()
    assert next(check for check in evidence[0].checks if check.name == "clean").status is Status.PASSED
    assert names(api) == ["shop-db"]


def test_a_fork_that_stays_is_said_to_stay(api, job, monkeypatch):
    fault(api, match={"method": "DELETE", "path": "/v2/databases/"}, do="status", status=503)
    monkeypatch.setattr(provider_fork, "DESTROY_SECONDS", 0.2)
    api.parts.gate["databases.contents"] = gate = threading.Event()
    with pytest.raises(CloudError, match=r"drill-\S+ may be left, and costs money: .*503.* pitr sweep"):
        run(replace(job, wait_minutes=0), print)
    gate.set()
    assert len(names(api)) == 2


def test_a_fork_that_others_may_reach_is_closed_again(api, job, monkeypatch):
    """Here the API loses the rules of the creation; what was open is closed before anything is asked."""
    opened = []

    def live(stack):
        (fork,) = [c for c in api.get("/v2/databases")["databases"] if c["name"] != "shop-db"]
        opened.append([rule["value"] for rule in fork["rules"]])
        raise CloudError("enough")

    create = forks.create_fork

    def careless(cloud, cluster, name, moment, droplets):
        ident = create(cloud, cluster, name, moment, droplets)
        cloud.send("PUT", f"/v2/databases/{ident}/firewall", {"rules": [{"type": "ip_addr", "value": "192.0.2.9"}]})
        return ident

    monkeypatch.setattr(forks, "create_fork", careless)
    with pytest.raises(CloudError, match="enough"):
        run(replace(job, open_live=live), print)
    assert opened == [[str(api.machine["id"])]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_drill_destroys_its_fork(api, ops, tmp_path, number):
    process = begun(api, ops, tmp_path)
    process.send_signal(number)
    code, _, stderr = done(process)
    api.parts.gate["databases.contents"].set()
    assert (code, names(api), api.get("/v2/tags")["tags"]) == (130, ["shop-db"], []), stderr
    assert "Traceback" not in stderr
    assert audit(tmp_path) == [("pitr drill", "interrupted", None)]


def test_what_a_killed_drill_left_is_swept_and_nothing_else(api, ops, tmp_path):
    process = begun(api, ops, tmp_path)
    process.kill()
    process.communicate()
    api.parts.gate["databases.contents"].set()
    fork = next(name for name in names(api) if name != "shop-db")
    # Beside it: a cluster by a like name without the tag, one with the tag by another name, and live with the tag on.
    like = f"drill-{api.live['id'][:8]}-260101000000"
    api.cluster(like)
    api.cluster("other", tags=[TAG])
    live = {"resources": [{"resource_id": api.live["id"], "resource_type": "database"}]}
    api.send("POST", f"/v2/tags/{TAG}/resources", live)
    others = sorted(["other", "shop-db", like])
    assert names(api) == sorted([*others, fork])

    code, stdout, stderr = done(ops("sweep"))
    assert (code, names(api)) == (3, sorted([*others, fork])), stderr
    assert f"too young {fork}" in stdout
    code, stdout, _ = done(ops("sweep", "--older-than", "0", "--dry-run", "--json"))
    assert (code, names(api)) == (3, sorted([*others, fork]))
    states = {each["name"]: each["state"] for each in json.loads(stdout)["forks"]}
    assert states == {fork: "would be destroyed", "shop-db": "kept", "other": "kept", like: "kept"}

    code, stdout, stderr = done(ops("sweep", "--older-than", "0"))
    assert names(api) == others
    assert code == 3, "something looks like a fork and surely is none: a person has to see to it"
    assert "shop-db: it is the live cluster" in " ".join(stderr.split())
    assert "other: it is not named as a fork of shop-db" in " ".join(stderr.split())

    assert f"{like}: it does not wear the tag" in " ".join(stderr.split())

    api.delete(f"/v2/tags/{TAG}")
    api.delete(f"/v2/databases/{next(c['id'] for c in api.get('/v2/databases')['databases'] if c['name'] == like)}")
    code, stdout, _ = done(ops("sweep", "--older-than", "0"))
    assert (code, stdout.strip()) == (0, "shop-db: no fork to destroy")
    told = [("pitr sweep", "red", []), ("pitr sweep", "red", [fork]), ("pitr sweep", "done", [])]
    assert audit(tmp_path) == told, "a dry run is no line"


def test_live_is_not_destroyed_by_whatever_name_or_id(api, job):
    live = live_of(job)
    for name, ident in (("shop-db", live.id), (forks.fork_name(live, datetime.now(UTC)), live.id), ("shop-db", None)):
        with pytest.raises(RestoreRefusedError, match="not destroyed: it is the live cluster"):
            forks.destroy_fork(job.cloud, live, name, ident, QUICK)
    assert names(api) == ["shop-db"]
    # A cluster by the name of a fork and without its tag may be somebody else's; with it, the same call destroys it.
    name = forks.fork_name(live, datetime.now(UTC))
    api.cluster(name)
    with pytest.raises(RestoreRefusedError, match=f"{name} .*: not destroyed: it does not wear the tag {TAG}"):
        forks.destroy_fork(job.cloud, live, name, None, QUICK)
    assert names(api) == sorted(["shop-db", name])
    api.delete(f"/v2/databases/{next(c['id'] for c in api.get('/v2/databases')['databases'] if c['name'] == name)}")
    api.cluster(name, tags=[TAG])
    assert forks.destroy_fork(job.cloud, live, name, None, QUICK)
    assert names(api) == ["shop-db"]


def test_a_fork_is_known_by_its_name_and_its_host_fits_into_a_dns_label(api, job):
    live = replace(live_of(job), name="x" * 40)
    name = forks.fork_name(live, datetime.now(UTC))
    assert len(f"private-{name}-do-user-{10**12}-0") <= 63
    fork = replace(live, id="another", name=name, tags=(TAG,))
    assert forks.why_not_ours(fork, live) is None
    of_another = forks.fork_name(replace(live, id="0" * 8), datetime.now(UTC))
    for wrong in (of_another, f"x{name}", f"{name}0", name[:-1] + "z", live.name):
        assert forks.why_not_ours(replace(fork, name=wrong), live) is not None


@pytest.mark.long
def test_list_and_dry_run_make_nothing(api, ops):
    code, stdout, stderr = done(ops("list", "--json"))
    assert code == 0, stderr
    (point,) = json.loads(stdout)["restore_points"]
    assert point["size_gigabytes"] == 0.03
    assert "0.030 GB" in done(ops("list"))[1]
    code, stdout, _ = done(ops("drill", "--dry-run", "--json", "--at", "oldest"))
    planned = json.loads(stdout)
    assert (code, planned["as_of"], planned["plan"]) == (0, point["created_at"], "db-s-1vcpu-1gb")
    code, _, stderr = done(ops("drill", "--max-cost", "0.01"))
    assert code == 1
    assert "nothing was made" in stderr
    assert names(api) == ["shop-db"]
    assert not [what for what, spec in api.parts.calls if what == "databases.apply" and spec.restore]
