"""The provider's restore points: what a drill of them proves, what it refuses, and that its fork is gone afterwards.

The API is the sandbox's, without parts; the server behind a fork is a physical copy of the kit's own, promoted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.backup.keys import Signer
from ops.cloud import Cloud
from ops.drill import scratch
from ops.drill.evidence import Status
from ops.errors import CloudError, OpsError, RestoreRefusedError, StackError
from ops.pitr import drill, forks, provider
from ops.pitr.drill import ForkDrill, run
from ops.pitr.evidence import keep, verify
from ops.pitr.forks import TAG, Patience
from ops.pitr.identity import identity
from ops.sources.pg_tools import Endpoint, find_tool
from ops.stack import load_stack
from ops.stack_init import make_key
from sandbox.parts.none import NoParts
from tests.ops.conftest import CANARY, free_port
from tests.sandbox.conftest import TOKEN, running

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(seconds=30, pause=0.02)


@pytest.fixture
def api(tmp_path):
    """An account with a droplet and a cluster `shop-db` that has a backup."""
    with running(tmp_path / "api", NoParts()) as sandbox:
        sandbox.machine = sandbox.droplet("web")
        sandbox.live = sandbox.cluster("shop-db")
        path = f"/v2/databases/{sandbox.live['id']}"
        sandbox.post(f"{path}/users", {"name": "app"})
        rules = [{"type": "droplet", "value": str(sandbox.machine["id"])}]
        sandbox.put(f"{path}/firewall", {"rules": rules})
        sandbox.until(lambda: len(sandbox.get(f"{path}/backups")["backups"]) == 1)
        yield sandbox


@pytest.fixture
def cloud(api):
    return Cloud(TOKEN, api.url)


@pytest.fixture
def outputs(api, tmp_path):
    """The outputs of a stack of that account, as a file."""
    account = api.get("/v2/account")["account"]
    live, machine = api.live, api.machine
    document = {
        "schema_version": 1,
        "environment": "staging",
        "project": "shop",
        "domain": "staging.example.org",
        "region": "nyc3",
        "account": account["team"]["uuid"],
        "droplets": [
            {
                "id": str(machine["id"]), "name": "web", "address": "127.0.0.1", "public_ip": "192.0.2.1",
                "private_ip": "10.0.0.2",
            }
        ],
        "access": {"user": "deploy", "port": 1, "host_key": "ssh-ed25519 AAAA"},
        "database": {
            "id": live["id"],
            "version": "15",
            "host": live["connection"]["host"],
            "private_host": live["private_connection"]["host"],
            "port": 25060,
            "user": "app",
            "admin_user": "doadmin",
            "databases": ["shop"],
            "pool_name": None,
            "pool_port": None,
            "ca_certificate": "none",
        },
        "assets": None,
        "registry": {"name": "test", "endpoint": "registry.example.org/test"},
        "services": [],
        "backup": {
            "destinations": [], "schedule": "daily", "retention": {}, "max_age_hours": 26, "rto_minutes": 15,
        },
        "secrets": {
            "deploy_key": make_key().get_secret_value(),
            "database_password": "c4n4ry-user",
            "database_admin_password": "c4n4ry-admin",
        },
    }  # fmt: skip
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def job(cloud, outputs):
    """A drill whose servers are not asked: each test says what is there."""
    return ForkDrill(stack=load_stack(None, outputs), cloud=cloud, max_cost=1.0, wait_minutes=1, pause=0.02)


def live_of(job):
    return provider.live_cluster(job.cloud, job.stack)


def names(api):
    return sorted(cluster["name"] for cluster in api.get("/v2/databases")["databases"])


def fault(api, **rule):
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert api.client.post("/_sandbox/faults", json=rule, headers=headers).status_code == 201


# --- what a drill proves ---------------------------------------------------------------------------------------------


@contextmanager
def copy_of(cluster, *, recovered):
    """Run a physical copy of the kit's server; yields its superuser's endpoint."""
    basebackup, postgres = find_tool("pg_basebackup", at_least="14"), find_tool("postgres", at_least="14")
    account, port = scratch._account(), free_port()
    with tempfile.TemporaryDirectory(prefix="ancla-copy-") as name, cluster.environment() as variables:
        folder = Path(name)
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        subprocess.run(
            [basebackup.path, "-D", folder / "data", "--checkpoint=fast", "--no-sync"], env=variables, check=True
        )
        if recovered:
            (folder / "data" / "standby.signal").touch()
        shutil.copy(Path(cluster_folder(cluster)) / "server.crt", folder)
        shutil.copy(Path(cluster_folder(cluster)) / "server.key", folder)
        if account is not None:
            for path in [*folder.rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid)
        options = {
            "listen_addresses": "127.0.0.1", "port": port, "fsync": "off", "ssl": "on",
            "ssl_cert_file": folder / "server.crt", "ssl_key_file": folder / "server.key",
        }  # fmt: skip
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [*scratch._as(account, dies_with_us=True), postgres.path, "-D", folder / "data", "-k", folder]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, *arguments], cwd=folder, env=scratch._clean(), stdout=log, stderr=log)
        endpoint = replace(cluster, port=port)
        try:
            scratch._wait(endpoint, process, folder / "log")
            if recovered:
                with endpoint.connect() as connection:
                    connection.execute("SELECT pg_promote()")
            yield endpoint
        finally:
            scratch._stop(process)


@pytest.fixture
def copied(cluster, shop):
    """A copy that was recovered and promoted, `shop` in it: what a provider's fork is."""
    with copy_of(cluster, recovered=True) as endpoint:
        yield endpoint


def cluster_folder(cluster):
    with cluster.connect() as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(str(row[0])).parent


def as_users(endpoint):
    """Both logins of a server of the kit, as `open_live` and `open_fork` give them."""

    @contextmanager
    def opened(*_):
        password = SecretStr(CANARY)
        yield replace(endpoint, user="doadmin", password=password), replace(endpoint, user="app", password=password)

    return opened


def test_a_fork_that_holds_all_is_green_and_gone_and_every_way_of_being_wrong_is_red(api, job, cluster, copied, shop):
    job = replace(job, open_live=as_users(cluster), open_fork=as_users(copied))
    evidence = run(job, print)
    assert evidence.summary() == ""
    assert evidence.verdict == "green"
    assert {check.status for check in evidence.checks} == {Status.PASSED}
    assert evidence.rows == 4552
    assert evidence.identity.live_timeline < evidence.identity.fork_timeline
    assert "not a backup of ours" in evidence.proves
    assert names(api) == ["shop-db"]
    assert api.get("/v2/tags")["tags"] == [], "not even its tag"
    made = next(spec for what, spec in api.parts.calls if what == "apply_cluster" and spec.restore)
    own = {f"{network['ip_address']}/32" for network in api.machine["networks"]["v4"]}
    assert set(made.trusted) == own, "closed to all but the droplet from its first moment"
    for secret in (CANARY, TOKEN, "c4n4ry"):
        assert secret not in evidence.model_dump_json()

    def red(check, **change):
        found = run(replace(job, **change), print)
        assert found.verdict == "red"
        assert names(api) == ["shop-db"], "a red drill destroys its fork too"
        assert check in [each.name for each in found.red], found.summary()
        return found.summary()

    # The live server itself in place of a fork.
    assert "it is the live server itself" in red("identity", open_fork=as_users(cluster))
    # Live was changed since: named, and accepted when that was said.
    with cluster.on(shop).connect() as connection:
        connection.execute("ALTER TABLE public.customers ADD COLUMN later int")
    assert "public.customers: defined otherwise" in red("schema")
    assert run(replace(job, schema_may_differ=True), print).verdict == "green"
    # A copy without rows, and one without the database.
    with copied.on(shop).connect() as connection:
        connection.execute('TRUNCATE customers, orders, events, audit.log, "Odd name; x"')
    assert "no row in any table" in red("rows", schema_may_differ=True)
    assert run(replace(job, schema_may_differ=True, may_be_empty=True), print).verdict == "green"
    with copied.connect() as connection:
        connection.execute(f"DROP DATABASE {shop}")
    assert f'database "{shop}" does not exist' in red("databases")


@contextmanager
def as_nobody(_):
    endpoint = Endpoint(host="127.0.0.1", port=1, user="x", password=SecretStr("x"), database="x")
    yield endpoint, endpoint


def test_a_copy_that_was_not_recovered_is_no_restored_backup(job, cluster, shop):
    with copy_of(cluster, recovered=False) as copy:
        evidence = run(replace(job, open_live=as_users(cluster), open_fork=as_users(copy)), print)
    assert "it was not recovered from a backup" in evidence.summary()


def test_a_fork_that_dies_while_it_is_read_is_red_and_destroyed(api, job, cluster, shop, monkeypatch):
    asked = []

    def dies(connection):
        asked.append(identity(connection))  # of live, then of the fork
        if len(asked) == 2:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return asked[0]

    monkeypatch.setattr(drill, "identity", dies)
    evidence = run(replace(job, open_live=as_users(cluster), open_fork=as_users(cluster)), print)
    assert "terminating connection" in evidence.summary()
    assert names(api) == ["shop-db"]


def test_another_system_is_not_a_fork_of_this_one(job, cluster, shop):
    with scratch.scratch_server("15") as other:
        job = replace(job, open_live=as_users(cluster), open_fork=contextmanager(lambda *_: iter([(other, other)])))
        evidence = run(job, print)
    assert "it is another system" in evidence.summary()


def test_evidence_is_signed_and_none_is_changed_or_taken_out_unseen(job, tmp_path, monkeypatch):
    evidence, signer = run(replace(job, open_live=as_nobody), print), Signer(make_key())
    folder = tmp_path / "drills"
    folder.mkdir()
    for hour in range(3):
        moment = evidence.started_at + timedelta(hours=hour)
        keep(evidence.model_copy(update={"started_at": moment}), folder, signer)
    files, problems = verify(folder, "staging", [signer.public])
    assert (len(files), problems) == (3, [])
    assert "not believed" in verify(folder, "staging", [Signer(make_key()).public])[1][0]
    _, second, third = files
    whole = second.read_bytes()
    for at in range(0, len(whole), 97):
        second.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verify(folder, "staging", [signer.public])[1], at
    second.write_bytes(whole.replace(b'"red"', b'"green"'))
    assert second.read_bytes() != whole
    assert f"{second.name}: changed after it was signed" in verify(folder, "staging", [signer.public])[1]
    second.unlink()
    assert verify(folder, "staging", [signer.public])[1] == [
        f"{third.name}: the one before it was changed or taken out"
    ]
    keep(evidence.model_copy(update={"started_at": evidence.started_at + timedelta(days=1)}), folder, None)
    assert any("not signed" in problem for problem in verify(folder, "staging", [signer.public])[1])


# --- what is refused before anything is made -------------------------------------------------------------------------


def test_what_may_cost_more_than_the_limit_is_refused_before_the_start(api, job):
    planned = drill.plan(job, datetime.now(UTC))
    assert planned.cost.total == pytest.approx(2 * 15 / 672, abs=0.001)
    with pytest.raises(OpsError, match=r"may cost 0\.04 US dollars \(2 h\), more than --max-cost 0\.04; nothing was"):
        run(replace(job, max_cost=0.044), print)
    with pytest.raises(OpsError, match=r"may cost 0\.56 US dollars"):
        run(replace(job, max_cost=0.5, wait_minutes=24 * 60), print)
    assert names(api) == ["shop-db"]


def test_a_plan_without_a_price_is_refused(job, monkeypatch):
    monkeypatch.delitem(drill.fork_cost.__globals__["DATABASE_SIZES"], "db-s-1vcpu-1gb")
    with pytest.raises(OpsError, match="no fork without a price"):
        drill.plan(job, datetime.now(UTC))


def test_the_time_must_be_one_that_can_be_restored(api, job):
    now = datetime.now(UTC) + timedelta(seconds=2)
    (point,) = provider.restore_points(job.cloud, live_of(job))
    between = (point.created_at + timedelta(microseconds=1)).isoformat()
    for at, moment in (("latest", point.created_at), ("oldest", point.created_at), (between, None)):
        assert drill.plan(replace(job, at=at), now).moment == (moment or datetime.fromisoformat(between))
    for at, told in (
        ("yesterday", "neither latest, oldest, nor a time"),
        ("2020-01-01T00:00:00Z", "outside of what can be restored"),
        ("2120-01-01", "outside of what can be restored"),
    ):
        with pytest.raises(OpsError, match=told):
            drill.plan(replace(job, at=at), now)
    with pytest.raises(OpsError, match="lists no restore point"):
        provider.choose([], "latest", now)


def test_another_account_and_a_stack_without_droplet_are_refused(job):
    other = job.stack.outputs.model_copy(update={"account": "another"})
    with pytest.raises(StackError, match="belongs to the account another"):
        run(replace(job, stack=replace(job.stack, outputs=other)), print)
    bare = job.stack.outputs.model_copy(update={"droplets": []})
    with pytest.raises(OpsError, match="no droplet to reach a fork from"):
        run(replace(job, stack=replace(job.stack, outputs=bare)), print)


# --- a fork ends, whatever happens -----------------------------------------------------------------------------------


def test_a_fork_that_does_not_come_online_is_red_and_destroyed(api, job):
    gate = api.parts.gate["contents"] = threading.Event()
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
    assert [what for what, spec in api.parts.calls if what == "apply_cluster" and spec.restore]


def test_a_refused_fork_is_not_waited_for(api, job):
    fault(api, match={"method": "POST", "path": "^/v2/databases$"}, do="status", status=422, body={"message": "limit"})
    with pytest.raises(CloudError, match="422 limit"):
        run(job, print)
    assert names(api) == ["shop-db"]


def test_a_fork_is_asked_to_go_until_it_is_gone(api, job):
    evidence = []
    for nth in (1, 2, 3):
        fault(api, match={"method": "DELETE", "path": "/v2/databases/", "nth": nth}, do="status", status=503)
    api.parts.gate["contents"] = gate = threading.Event()
    evidence.append(run(replace(job, wait_minutes=0), print))
    gate.set()
    assert next(check for check in evidence[0].checks if check.name == "clean").status is Status.PASSED
    assert names(api) == ["shop-db"]


def test_a_fork_that_stays_is_said_to_stay(api, job, monkeypatch):
    fault(api, match={"method": "DELETE", "path": "/v2/databases/"}, do="status", status=503)
    monkeypatch.setattr(drill, "DESTROY_SECONDS", 0.2)
    api.parts.gate["contents"] = gate = threading.Event()
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


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ops(api, outputs, tmp_path):
    """Run `python -m ops pitr …` in a process of its own; those that still run are ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANCLA_", "PULUMI_"))}
    environment |= {"DIGITALOCEAN_TOKEN": TOKEN, "DIGITALOCEAN_API_URL": api.url, "ANCLA_OUTPUTS": str(outputs)}
    environment["ANCLA_AUDIT"] = str(tmp_path / "audit.jsonl")

    with ExitStack() as started:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "ops", "pitr", *arguments], cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            started.callback(lambda: process.poll() is not None or process.kill())
            return process

        yield start


def done(process):
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def audit(tmp_path):
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    return [(line["verb"], line["result"], line.get("destroyed")) for line in lines]


def begun(api, ops, tmp_path):
    """A drill whose fork is there and does not come online; its process."""
    api.parts.gate["contents"] = threading.Event()
    process = ops("drill", "--evidence", str(tmp_path / "drills"))
    api.until(lambda: len(names(api)) == 2 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_drill_destroys_its_fork(api, ops, tmp_path, number):
    process = begun(api, ops, tmp_path)
    process.send_signal(number)
    code, _, stderr = done(process)
    api.parts.gate["contents"].set()
    assert (code, names(api), api.get("/v2/tags")["tags"]) == (130, ["shop-db"], []), stderr
    assert "Traceback" not in stderr
    assert audit(tmp_path) == [("pitr drill", "interrupted", None)]


def test_what_a_killed_drill_left_is_swept_and_nothing_else(api, ops, tmp_path):
    process = begun(api, ops, tmp_path)
    process.kill()
    process.communicate()
    api.parts.gate["contents"].set()
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
    assert (code, stdout.strip()) == (0, "shop-db: no fork is left")
    told = [("pitr sweep", "red", []), ("pitr sweep", "red", [fork]), ("pitr sweep", "done", [])]
    assert audit(tmp_path) == told, "a dry run is no line"


def test_live_is_not_destroyed_by_whatever_name_or_id(api, job):
    live = live_of(job)
    for name, ident in (("shop-db", live.id), (forks.fork_name(live, datetime.now(UTC)), live.id), ("shop-db", None)):
        with pytest.raises(RestoreRefusedError, match="not destroyed: no fork"):
            forks.destroy_fork(job.cloud, live, name, ident, QUICK)
    assert names(api) == ["shop-db"]
    # And the same call does destroy a fork.
    name = forks.fork_name(live, datetime.now(UTC))
    api.cluster(name)
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


# --- the command line ------------------------------------------------------------------------------------------------


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
    assert not [what for what, spec in api.parts.calls if what == "apply_cluster" and spec.restore]
