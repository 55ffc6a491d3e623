"""Bodies that no client should send: whatever is in a field, the answer is an error of the client, never a defect.

Each body begins as one that is accepted, so that no field is hidden behind the refusal of another, and has one wrong
value at a time: each value in each field, those of nested objects too.

Schemathesis 4.32 was tried instead. Of four faults that were planted in the API it found none in a minute, these bodies
all of them in ten seconds. Its runner ends in a traceback at this description, its lazy fixtures at pytest 9.2.
"""

from __future__ import annotations

import copy
import itertools
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.api.context import HANDLERS, Operation, load_operations
from tests.sandbox import openapi
from tests.sandbox.conftest import PUBLIC_KEY, Sandbox

SEED = int(os.environ["ANCLA_SEED"])
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 10**12, 1.5, "", "x", "x" * 300, "ü\u0000", [], ["x"], [1], [None], [{}], {}, {"x": 1}),
)


EMAIL = {"email": ["sandbox@example.com"], "slack": []}
ALERT_POLICY = {
    "alerts": EMAIL,
    "compare": "GreaterThan",
    "description": "CPU",
    "enabled": True,
    "entities": [],
    "tags": [],
    "type": "v1/insights/droplet/cpu",
    "value": 80,
    "window": "5m",
}
ALERT = {
    "type": "latency",
    "threshold": 300,
    "comparison": "greater_than",
    "notifications": EMAIL,
    "period": "2m",
}
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43 + " other"
RULES = {
    "inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": {"addresses": ["192.0.2.0/24"], "tags": []}}],
    "outbound_rules": [{"protocol": "udp", "ports": "53", "destinations": {"addresses": ["0.0.0.0/0"]}}],
}
FORWARD = {"entry_protocol": "http", "entry_port": 8080, "target_protocol": "http", "target_port": 80}
BALANCER = {
    "region": "nyc3",
    "tag": None,
    "forwarding_rules": [FORWARD],
    "health_check": {"protocol": "http", "port": 80, "path": "/health"},
    "sticky_sessions": {"type": "cookies", "cookie_name": "LB", "cookie_ttl_seconds": 60},
    "firewall": {"allow": ["ip:192.0.2.1"], "deny": ["cidr:198.51.100.0/24"]},
    "project_id": None,
    "vpc_uuid": None,
}
# Operation → why even a body without a fault is refused.
REFUSED = {
    "certificates_create": "its names need a zone that answers",
    "databases_create_replica": "is not built",
    "databases_update_evictionPolicy": "of another engine",
    "databases_update_sql_mode": "of another engine",
    "databases_update_major_version": "there is one version",
    "images_create_custom": "is not built",
}


def _accepted(ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return, by operation, the fields without which the description's example is refused here; None is left out."""
    droplet = int(ids["droplet_id"])
    members = {"droplet_ids": [droplet], "tags": ["extra-awesome"], **RULES}
    record = {"type": "A", "name": "www", "data": "192.0.2.3", "priority": 1, "port": 1, "weight": 1, "flags": 1}
    record |= {"tag": None, "id": None}
    cluster = {"size": "db-s-1vcpu-1gb", "num_nodes": 1, "storage_size_mib": None}
    key = {"grants": [{"bucket": "assets", "permission": "read"}], "access_key": None}
    volume = {"type": "attach", "region": "nyc3", "droplet_id": droplet, "volume_name": "vol", "size_gigabytes": 2}
    return {
        "sshKeys_create": {"public_key": OTHER_KEY},
        "cdn_create_endpoint": {"certificate_id": None, "custom_domain": None},
        "cdn_update_endpoints": {"certificate_id": None, "custom_domain": None},
        "databases_create_cluster": cluster
        | {"engine": "pg", "version": "15", "private_network_uuid": None, "backup_restore": None}
        | {"rules": [{"type": "ip_addr", "value": "192.0.2.1"}]},
        "databases_patch_config": {"config": {"work_mem": 8, "timezone": "UTC", "jit": True}},
        "databases_update_firewall_rules": {"rules": [{"type": "ip_addr", "value": "192.0.2.1"}]},
        "databases_update_clusterSize": cluster,
        "domains_create_record": record,
        "domains_patch_record": record,
        "domains_update_record": record,
        "droplets_create": {"ipv6": None, "image": "ubuntu-24-04-x64", "ssh_keys": [], "vpc_uuid": None, "volumes": []}
        | {"backup_policy": {"plan": "weekly", "weekday": "MON", "hour": 4}},
        "firewalls_create": members,
        "firewalls_update": members,
        "firewalls_assign_droplets": {"droplet_ids": [droplet]},
        "firewalls_add_rules": RULES,
        "firewalls_add_tags": {"tags": ["extra-awesome"]},
        "loadBalancers_create": BALANCER | {"droplet_ids": [droplet]},
        "loadBalancers_update": BALANCER | {"droplet_ids": [droplet]},
        "loadBalancers_add_droplets": {"droplet_ids": [droplet]},
        "loadBalancers_add_forwardingRules": {"forwarding_rules": [FORWARD | {"entry_port": 8081}]},
        "monitoring_create_alertPolicy": ALERT_POLICY | {"entities": [str(droplet)], "tags": ["extra-awesome"]},
        "monitoring_update_alertPolicy": ALERT_POLICY | {"entities": [str(droplet)], "tags": ["extra-awesome"]},
        "registries_create": {"subscription_tier_slug": "professional"},
        "registry_create": {"subscription_tier_slug": "professional"},
        "registries_update_subscription": {"tier_slug": "professional"},
        "registry_update_subscription": {"tier_slug": "professional"},
        "reservedIPs_create": {"droplet_id": None},
        "reservedIPsActions_post": {"type": "assign", "droplet_id": droplet},
        "spacesKey_create": key,
        "spacesKey_patch": key,
        "spacesKey_update": key,
        "tags_assign_resources": {"resources": [{"resource_id": str(droplet), "resource_type": "droplet"}]},
        "uptime_create_alert": ALERT,
        "uptime_update_alert": ALERT,
        "volumes_create": {"snapshot_id": None, "droplet_ids": None},
        "volumeActions_post": volume | {"size_gigabytes": None},
        "volumeActions_post_byId": volume | {"volume_name": None, "type": "resize"},
        "volumeSnapshots_create": {"name": "snap"},
        "vpcs_create": {"ip_range": None, "default": None},
    }


def _fields(description: openapi.Description, schema: Any, depth: int = 0) -> dict[str, Any]:
    """Return an example body, as far as a schema has one."""
    found: dict[str, Any] = {}
    for part in description._parts(schema):
        for name, inner in part.get("properties", {}).items():
            # A reference in place of the properties, as some schemas of the description have, leads nowhere.
            if name in found or name == "$ref":
                continue
            example = _example(description.raw, schema, name)
            deeper = example is None and depth < 3
            found[name] = _fields(description, description._resolve(inner), depth + 1) if deeper else example
    return found


def _example(raw: Any, schema: Any, name: str) -> Any:
    def resolve(node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target = raw
            for part in node["$ref"].partition("#/")[2].split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    schema = resolve(schema)
    for word in ("allOf", "oneOf", "anyOf"):
        for item in schema.get(word, []):
            found = _example(raw, item, name)
            if found is not None:
                return found
    return resolve(schema.get("properties", {}).get(name, {})).get("example")


def make_one_of_each(sandbox: Sandbox) -> dict[str, str]:
    """Make one of each; return what the path parameters are to be."""
    sandbox.parts.bucket_list = (("nyc3", "assets"), ("nyc3", "static-images"))
    key = sandbox.post("/v2/account/keys", {"name": "me", "public_key": PUBLIC_KEY})["ssh_key"]
    droplet = sandbox.droplet(tags=["extra-awesome"])
    rule = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
    firewall = sandbox.post("/v2/firewalls", {"name": "fw", "inbound_rules": [rule]})["firewall"]
    reserved = sandbox.post("/v2/reserved_ips", {"region": "nyc3"})["reserved_ip"]
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    sandbox.post(f"{path}/users", {"name": "app"})
    sandbox.post(f"{path}/dbs", {"name": "shop"})
    sandbox.post(f"{path}/pools", {"name": "pool", "mode": "session", "size": 1, "db": "shop"})
    sandbox.post("/v2/domains", {"name": "example.org"})
    a = {"type": "A", "name": "www", "data": "192.0.2.1"}
    record = sandbox.post("/v2/domains/example.org/records", a)["domain_record"]
    spaces = sandbox.post("/v2/spaces/keys", {"name": "k", "grants": []})["key"]
    cdn = sandbox.post("/v2/cdn/endpoints", {"origin": "assets.nyc3.digitaloceanspaces.com"})["endpoint"]
    sandbox.post("/v2/registry", {"name": "acme", "subscription_tier_slug": "basic"})
    volume = sandbox.post("/v2/volumes", {"name": "vol", "region": "nyc3", "size_gigabytes": 1})["volume"]
    project = sandbox.post("/v2/projects", {"name": "p", "purpose": "IoT"})["project"]
    check = sandbox.post("/v2/uptime/checks", {"name": "c", "type": "https", "target": "https://a.org"})["check"]
    vpc = sandbox.get("/v2/vpcs")["vpcs"][0]
    balancer = {"name": "lb", "region": "nyc3", "forwarding_rules": [FORWARD]}
    balancer = sandbox.post("/v2/load_balancers", balancer)["load_balancer"]
    sandbox.act(droplet, "snapshot")
    policy = sandbox.post("/v2/monitoring/alerts", ALERT_POLICY)["policy"]
    alert = sandbox.post(f"/v2/uptime/checks/{check['id']}/alerts", {"name": "a", **ALERT})["alert"]
    return {
        "ssh_key_identifier": str(key["id"]),
        "droplet_id": str(droplet["id"]),
        "firewall_id": firewall["id"],
        "reserved_ip": reserved["ip"],
        "database_cluster_uuid": cluster["id"],
        "username": "app",
        "database_name": "shop",
        "pool_name": "pool",
        "domain_name": "example.org",
        "domain_record_id": str(record["id"]),
        "access_key": spaces["access_key"],
        "cdn_id": cdn["id"],
        "registry_name": "acme",
        "lb_id": balancer["id"],
        "volume_id": volume["id"],
        "project_id": project["id"],
        "check_id": check["id"],
        "tag_id": "extra-awesome",
        "vpc_id": vpc["id"],
        "image_id": str(sandbox.get("/v2/images?private=true")["images"][0]["id"]),
        "alert_uuid": policy["uuid"],
        "alert_id": alert["id"],
    }


def _bodies(sandbox: Sandbox, ids: dict[str, str]) -> Iterator[tuple[Operation, str, dict[str, Any]]]:
    """Return each operation that takes a body, the path with ids in it, and a body that is accepted."""
    description, accepted = sandbox.description, _accepted(ids)
    for operation in load_operations():
        known = operation.id in HANDLERS and operation.id in description.operations
        if not known or operation.method not in {"POST", "PUT", "PATCH"}:
            continue
        path, method = description.operations[operation.id]
        body = description._resolve(description._document["paths"][path][method].get("requestBody") or {})
        schema = body.get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            fields = _fields(description, schema) | accepted.get(operation.id, {})
            yield operation, path.format(**ids), {name: value for name, value in fields.items() if value is not None}


def _places(node: Any) -> Iterator[tuple[Any, ...]]:
    """Return the way to each value in a body."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield (key,)
        yield from ((key, *rest) for rest in _places(node[key]))


def _with(body: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    node: Any = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


class Sender:
    """Sends bodies under new names, and deletes what they make, so that no body is refused because of another."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._numbers = itertools.count()
        self._deletable = {op.path.rpartition("/")[0] for op in load_operations() if op.method == "DELETE"}

    def send(self, operation: Operation, path: str, body: dict[str, Any], *, named: bool = True) -> tuple[int, Any]:
        """Make a call; return status and body."""
        number = next(self._numbers)
        if operation.id == "domains_create" and named:
            body = body | {"name": f"d{number}.example.net"}
        elif "name" in body and named and "record" not in operation.id:
            body = body | {"name": f"n{number}"}
        status, answer = self._sandbox.call(operation.method, path, body)
        if status < 300 and operation.method == "POST" and operation.path in self._deletable:
            made = next((item for item in answer.values() if isinstance(item, dict) and item), {})
            if ident := next((made[key] for key in ("id", "uuid", "access_key", "ip", "name") if made.get(key)), None):
                self._sandbox.call("DELETE", f"{path}/{ident}")
        return status, answer


def test_bodies_without_a_fault_are_accepted(sandbox: Sandbox):
    """Otherwise the test below compares nothing but the first refusal."""
    sender = Sender(sandbox)
    for operation, path, body in _bodies(sandbox, make_one_of_each(sandbox)):
        status, answer = sender.send(operation, path, body)
        sandbox.until(lambda: not sandbox.store.list("action", status="in-progress"))
        assert (status < 300) == (operation.id not in REFUSED), (operation.id, body, status, answer)


def _send_all(sandbox: Sandbox, share: float) -> None:
    chosen, sender, calls = random.Random(SEED), Sender(sandbox), 0
    for operation, path, body in _bodies(sandbox, make_one_of_each(sandbox)):
        for place, value in itertools.product(_places(body), VALUES):
            if chosen.random() < share:
                changed = _with(body, place, value)
                status, answer = sender.send(operation, path, changed, named=place != ("name",))
                assert status != 500, (f"ANCLA_SEED={SEED}", operation.id, changed, answer)
                calls += 1
    print(f"ANCLA_SEED={SEED}: {calls} bodies")
    assert calls > 8000 * share


def test_no_body_is_a_defect(sandbox: Sandbox):
    _send_all(sandbox, 0.2)


@pytest.mark.all
def test_no_body_at_all_is_a_defect(sandbox: Sandbox):
    _send_all(sandbox, 1.0)
