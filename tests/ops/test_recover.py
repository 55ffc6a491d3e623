from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime

import httpx
import pytest

from ops.core.errors import CloudError, StackError
from ops.stack.cloud import Cloud
from ops.stack.deployment import SECRET_SIGNATURE
from ops.stack.recovery import failed_creates, file_backend, recover
from ops.stack.recovery.cloud_lookup import BUCKET, FINDERS, REPEATABLE, AmbiguousError, find
from ops.stack.recovery.recover import Action, Found, apply_steps, plan_steps

STACK = "urn:pulumi:staging::ancla::"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
DROPLET = "digitalocean:index/droplet:Droplet"
SECRET = {SECRET_SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:xyz"}


def pending(token, kind="creating", name="it", **inputs):
    return {
        "type": kind,
        "resource": {"urn": f"{STACK}{token}::{name}", "custom": True, "type": token, "inputs": inputs, "parent": "p"},
    }


def deployment(*operations, resources=()):
    return {"resources": list(resources), "pending_operations": list(operations)}


def never(token, inputs, known):
    raise AssertionError("the cloud was asked")


def test_what_was_made_is_adopted_with_its_inputs_as_first_outputs():
    state = deployment(pending(DROPLET, name="web", region="nyc3", userData=SECRET, tags=["a"], __defaults=["tags"]))
    (step,) = steps = plan_steps(state, state, lambda *_: Found(id="7", label="web"))
    assert (step.action, step.id, step.name) == (Action.ADOPT, "7", "Droplet web")
    after = apply_steps(state, steps, NOW)
    (resource,) = after["resources"]
    assert after["pending_operations"] == []
    assert resource["id"] == "7"
    assert resource["parent"] == "p"
    assert resource["outputs"] == {"id": "7", "region": "nyc3", "userData": SECRET, "tags": ["a"]}
    assert resource["inputs"]["__defaults"] == ["tags"]
    assert state["resources"] == [], "the plan is applied to a copy"


def test_what_was_never_made_and_what_can_be_repeated_is_forgotten():
    state = deployment(
        pending(DROPLET),
        pending("digitalocean:index/vpc:Vpc", kind="updating"),
        pending("digitalocean:index/vpc:Vpc", kind="deleting"),
    )
    steps = plan_steps(state, state, lambda *_: Found())
    assert [step.action for step in steps] == [Action.FORGET] * 3
    for token in REPEATABLE:
        (step,) = plan_steps(deployment(pending(token)), deployment(pending(token)), never)
        assert step.action is Action.FORGET
    assert apply_steps(state, steps, NOW)["resources"] == []


def test_a_component_that_was_being_registered_is_forgotten():
    """It has nothing in the cloud: its parts do, and they stand in the state by themselves."""
    operation = pending("ancla:index:AppDroplet")
    operation["resource"]["custom"] = False
    (step,) = plan_steps(deployment(operation), deployment(operation), never)
    assert step.action is Action.FORGET
    operation["resource"]["custom"] = True
    with pytest.raises(StackError, match="does not know"):
        plan_steps(deployment(operation), deployment(operation), never)


def test_a_type_that_recover_does_not_know_stops_it():
    state = deployment(pending("digitalocean:index/volume:Volume"))
    with pytest.raises(StackError, match="does not know where to look it up"):
        plan_steps(state, state, never)


def test_the_old_half_of_a_replacement_makes_room():
    old = {"urn": f"{STACK}{DROPLET}::it", "type": DROPLET, "id": "1"}
    for mark, left in ((None, 2), ("pendingReplacement", 1)):
        state = deployment(pending(DROPLET), resources=[{**old, **({mark: True} if mark else {})}])
        steps = plan_steps(state, state, lambda *_: Found(id="2"))
        resources = apply_steps(state, steps, NOW)["resources"]
        assert len(resources) == left
        assert [r["id"] for r in resources if not r.get("delete")] == ["2"]


def test_secret_inputs_are_compared_in_clear_and_stay_encrypted_in_the_state():
    clear = {SECRET_SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"nyc3"'}
    seen = []
    state = deployment(pending(DROPLET, region=SECRET))
    plan_steps(
        state, deployment(pending(DROPLET, region=clear)), lambda token, inputs, known: seen.append(inputs) or Found()
    )
    assert seen == [{"region": "nyc3"}]


def test_a_spaces_key_is_deleted_because_nobody_knows_its_secret():
    token = "digitalocean:index/spacesKey:SpacesKey"
    state = deployment(pending(token))
    (step,) = plan_steps(state, state, lambda *_: Found(keys=("DO00A", "DO00B")))
    assert (step.action, step.delete) == (Action.REPLACE_KEY, ("DO00A", "DO00B"))


def cloud(answers):
    """A cloud that gives these collections, two items a page."""

    def answer(request):
        items = answers.get(request.url.path)
        if items is None:
            return httpx.Response(404, json={"id": "not_found", "message": "no"})
        page = int(request.url.params["page"])
        parts = request.url.path.split("/")
        (key,) = {
            f.key
            for f in FINDERS.values()
            if f.path.count("/") == len(parts) - 1 and [*map(_shape, f.path.split("/"), parts)] == parts
        }
        links = {"pages": {"next": "…"}} if page * 2 < len(items) else {}
        return httpx.Response(200, json={key: items[page * 2 - 2 : page * 2], "links": links})

    return Cloud("token", "http://127.0.0.1:1", transport=httpx.MockTransport(answer))


def _shape(pattern, part):
    return part if pattern.startswith("{") else pattern


NYC = {"slug": "nyc3"}


@pytest.mark.parametrize(
    ("token", "path", "item", "inputs", "expected"),
    [
        (DROPLET, "/v2/droplets", {"id": 7, "name": "web", "region": NYC, "status": "active"},
         {"name": "web", "region": "nyc3"}, "7"),
        ("digitalocean:index/databaseUser:DatabaseUser", "/v2/databases/c1/users", {"name": "app"},
         {"clusterId": "c1", "name": "app"}, "c1/user/app"),
        ("digitalocean:index/databaseDb:DatabaseDb", "/v2/databases/c1/dbs", {"name": "app"},
         {"clusterId": "c1", "name": "app"}, "c1/database/app"),
        ("digitalocean:index/databaseConnectionPool:DatabaseConnectionPool", "/v2/databases/c1/pools",
         {"name": "app"}, {"clusterId": "c1", "name": "app"}, "c1/app"),
        ("digitalocean:index/dnsRecord:DnsRecord", "/v2/domains/a.mx/records",
         {"id": 5, "type": "CNAME", "name": "assets", "data": "b.cdn.digitaloceanspaces.com", "ttl": 1800},
         {"domain": "a.mx", "type": "CNAME", "name": "assets", "value": "b.cdn.digitaloceanspaces.com."}, "5"),
        ("digitalocean:index/dnsRecord:DnsRecord", "/v2/domains/a.mx/records",
         {"id": 6, "type": "MX", "name": "@", "data": "mail.a.mx", "priority": 10},
         {"domain": "a.mx", "type": "MX", "name": "@", "value": "mail.a.mx.", "priority": 10.0}, "6"),
        ("digitalocean:index/sshKey:SshKey", "/v2/account/keys",
         {"id": 3, "name": "k", "public_key": "ssh-ed25519 AAAA comment"},
         {"name": "k", "publicKey": "ssh-ed25519 AAAA"}, "3"),
        ("digitalocean:index/monitorAlert:MonitorAlert", "/v2/monitoring/alerts",
         {"uuid": "u", "description": "cpu", "type": "t"}, {"description": "cpu", "type": "t"}, "u"),
        ("digitalocean:index/uptimeAlert:UptimeAlert", "/v2/uptime/checks/c/alerts",
         {"id": "a", "name": "down", "type": "down"}, {"checkId": "c", "name": "down", "type": "down"}, "a"),
        ("digitalocean:index/reservedIp:ReservedIp", "/v2/reserved_ips",
         {"ip": "192.0.2.7", "region": NYC, "droplet": None}, {"region": "nyc3"}, "192.0.2.7"),
        ("digitalocean:index/cdn:Cdn", "/v2/cdn/endpoints", {"id": "e", "origin": "b.nyc3"}, {"origin": "b.nyc3"}, "e"),
    ],
)  # fmt: skip
def test_each_type_is_found_among_others_with_the_providers_id(token, path, item, inputs, expected):
    others = [{**item, **dict.fromkeys(("name", "data", "description", "origin", "id", "uuid"), f"other{i}"),
               "region": {"slug": "ams3"}} for i in range(5)]  # fmt: skip
    found = find(cloud({path: [*others, item]}), token, inputs, set())
    assert found is not None
    assert found.id == expected
    assert find(cloud({path: others}), token, inputs, set()) is None
    assert find(cloud({path: [item]}), token, inputs, {expected}) is None, "what is in the state is no orphan"
    assert find(cloud({}), token, inputs, set()) is None, "nor is what cannot be there"


def test_a_droplet_that_still_boots_is_found_and_waited_for():
    item = {"id": 7, "name": "web", "region": NYC, "status": "new"}
    found = find(cloud({"/v2/droplets": [item]}), DROPLET, {"name": "web", "region": "nyc3"}, set())
    assert found is not None
    assert not found.settled


def test_two_that_fit_are_not_guessed_between():
    items = [{"ip": f"192.0.2.{i}", "region": NYC, "droplet": None} for i in (7, 8)]
    with pytest.raises(AmbiguousError, match=r"192.0.2.7.*192.0.2.8"):
        find(cloud({"/v2/reserved_ips": items}), "digitalocean:index/reservedIp:ReservedIp", {"region": "nyc3"}, set())


def test_a_refused_token_is_one_line_without_the_token():
    refusing = httpx.MockTransport(lambda request: httpx.Response(401, json={"message": "Unable to authenticate you"}))
    with pytest.raises(CloudError, match="401 Unable to authenticate you; check DIGITALOCEAN_TOKEN") as caught:
        Cloud("t0ken", transport=refusing).account()
    assert "t0ken" not in str(caught.value)


def test_a_lock_is_held_only_by_a_process_that_lives(tmp_path):
    def lock(**values):
        path = tmp_path / "lock.json"
        path.write_text(json.dumps({"username": "u", "timestamp": "", **values}))
        return file_backend._lock(path)

    here = socket.gethostname()
    assert not lock(pid=2**22 - 1, hostname=here).held
    assert not lock(pid=os.getpid(), hostname=here).held, "this process is no engine: the number was used again"
    assert lock(pid=1, hostname="elsewhere").held, "nobody can tell from here"


def test_half_written_sidecars_of_this_stack_are_found_and_no_others(tmp_path):
    backend = file_backend.FileBackend(root=tmp_path, project="ancla", stack="staging")
    folder = tmp_path / "stacks" / "ancla"
    folder.mkdir(parents=True)
    (folder / "staging.json").write_text("{}")
    (folder / "staging.json.attrs").write_text("")
    (folder / "staging.json.bak.attrs").write_text('{"md5": ""}')
    (folder / "prod.json.attrs").write_text("")
    assert backend.torn() == [folder / "staging.json.attrs"]


def test_the_state_of_another_place_is_refused():
    provider = {"type": "pulumi:providers:digitalocean", "inputs": {"apiEndpoint": "http://127.0.0.1:8470"}}
    with pytest.raises(StackError, match=r"was built at http://127.0.0.1:8470, this shell talks to http://127.0.0.1:1"):
        recover._refuse_elsewhere("staging", {"resources": [provider]}, cloud({}))


# --- creations that failed although the resource was made ------------------------------------------------------------

CLUSTER_ID = "c-1"
PROVIDER = {"urn": f"{STACK}pulumi:providers:digitalocean::p", "type": "pulumi:providers:digitalocean", "id": "p-1"}
DATABASE = "digitalocean:index/databaseDb:DatabaseDb"


def planned(token, op="create", **inputs):
    urn = f"{STACK}{token}::it"
    return {"op": op, "urn": urn, "newState": {"urn": urn, "type": token, "custom": True, "inputs": inputs}}


@pytest.mark.parametrize(
    ("step", "taken"),
    [
        (planned(DATABASE, clusterId=CLUSTER_ID, name="app"), True),
        (planned(BUCKET, region="nyc3", name="assets"), True),
        (planned(DATABASE, op="same", clusterId=CLUSTER_ID, name="app"), False),
        (planned(DATABASE, clusterId=failed_creates.UNKNOWN, name="app"), False),
        (planned(DROPLET, name="web", region="nyc3"), False),  # another of its name may be anybody's
    ],
)
def test_what_a_preview_would_make_is_looked_for_by_its_name(step, taken):
    found = failed_creates.operations_of({"steps": [step]}, {"resources": [PROVIDER]})
    assert bool(found) is taken
    if taken:
        assert found[0]["resource"]["provider"] == f"{PROVIDER['urn']}::p-1"
    assert failed_creates.operations_of({"steps": [step]}, {"resources": []}) == [], "nothing was ever built"


def test_only_what_is_there_is_adopted(monkeypatch):
    """`up` ended with 404 for a database that it had made; the next one is refused as a duplicate."""
    steps = [planned(DATABASE, clusterId=CLUSTER_ID, name=name) for name in ("app", "reports")]
    for number, step in enumerate(steps):
        step["newState"]["urn"] += str(number)
    state = {"deployment": {"resources": [PROVIDER]}}
    commands = {"stack": state, "preview": {"steps": steps}}
    monkeypatch.setattr(recover, "pulumi_json", lambda arguments, stack: commands[arguments[0]])
    monkeypatch.setattr(recover, "file_backend", lambda stack: None)
    answer = {"dbs": [{"name": "defaultdb"}, {"name": "app"}]}
    cloud = Cloud("t", "http://cloud", transport=httpx.MockTransport(lambda request: httpx.Response(200, json=answer)))

    plan = recover.make_plan("staging", cloud)

    (step,) = plan.steps
    assert (step.action, step.id) == (Action.ADOPT, f"{CLUSTER_ID}/database/app")
    after = apply_steps(plan.deployment["deployment"], plan.steps, NOW)
    assert after["pending_operations"] == []
    assert [item["id"] for item in after["resources"]] == ["p-1", f"{CLUSTER_ID}/database/app"]


def test_a_preview_that_fails_hinders_no_recovery(monkeypatch):
    def engine(arguments, stack):
        if arguments[0] == "preview":
            raise StackError("the program says no")
        return {"deployment": {"resources": [PROVIDER]}}

    monkeypatch.setattr(recover, "pulumi_json", engine)
    monkeypatch.setattr(recover, "file_backend", lambda stack: None)
    plan = recover.make_plan("staging", Cloud("t", "http://cloud"))
    assert plan.empty
    assert plan.notes == ["what failed although it was made was not looked for: the program says no"]
