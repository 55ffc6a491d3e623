"""Bodies that no client should send: whatever is in a field, the answer is an error of the client, never a defect."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from sandbox.api.context import HANDLERS, load_operations
from tests.sandbox import openapi
from tests.sandbox.conftest import PUBLIC_KEY, Sandbox

VALUES: tuple[Any, ...] = (None, True, -1, 10**12, 1.5, "", "x", "ü\u0000", [], ["x"], [1], [None], [{}], {}, {"x": 1})
SEED = int(os.environ.get("ANCLA_SEED", "20261122"))
SAMPLE = int(os.environ.get("ANCLA_FUZZ", "700"))


def _fields(description: openapi.Description, schema: Any, depth: int = 0) -> dict[str, Any]:
    """Return an example body, as far as a schema has one."""
    found: dict[str, Any] = {}
    for part in description._parts(schema):
        for name, inner in part.get("properties", {}).items():
            if name in found:
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


def _ids(sandbox: Sandbox) -> dict[str, str]:
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
        "volume_id": volume["id"],
        "project_id": project["id"],
        "check_id": check["id"],
        "tag_id": "extra-awesome",
        "vpc_id": vpc["id"],
    }


def test_no_body_is_a_defect(sandbox: Sandbox):
    description = openapi.load()
    ids = _ids(sandbox)
    cases: list[tuple[str, str, Any]] = []
    for operation in load_operations():
        if operation.id not in HANDLERS or operation.method not in {"POST", "PUT", "PATCH"}:
            continue
        if operation.id not in description.operations:
            continue
        path, method = description.operations[operation.id]
        body = description._resolve(description._document["paths"][path][method].get("requestBody") or {})
        schema = body.get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            continue
        whole = _fields(description, schema)
        url = path
        for name, value in ids.items():
            url = url.replace(f"{{{name}}}", value)
        cases.append((operation.method, url, whole))
        cases += [(operation.method, url, whole | {name: value}) for name in whole for value in VALUES]
    assert len(cases) > 3000
    for method, url, body in random.Random(SEED).sample(cases, min(SAMPLE, len(cases))):
        status, answer = sandbox.call(method, url, body)
        assert status != 500, (f"seed {SEED}", method, url, body, answer)
    sandbox.get("/v2/droplets")


@pytest.mark.all
def test_no_body_at_all_is_a_defect(sandbox: Sandbox, monkeypatch):
    monkeypatch.setattr("tests.sandbox.test_api_fuzz.SAMPLE", 10**6)
    test_no_body_is_a_defect(sandbox)
