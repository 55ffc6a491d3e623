from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from sandbox.api.context import HANDLERS, load_operations
from sandbox.parts.none import NoParts
from tests.sandbox import openapi
from tests.sandbox.conftest import PUBLIC_KEY, TOKEN, Sandbox, running

OPERATIONS = load_operations()
BASE = "http://api.sandbox.test"


def test_a_foreign_token_is_refused_and_never_echoed(sandbox: Sandbox):
    real = "dop_v1_0123456789abcdef"
    status, body = sandbox.call("GET", "/v2/account", token=real)
    assert (status, body["id"]) == (401, "unauthorized")
    assert "sandbox" in body["message"]
    assert real not in str(body)
    assert real not in (sandbox.home / "journal.jsonl").read_text()


def test_admin_calls_need_the_token_too(sandbox: Sandbox):
    assert sandbox.client.get("/_sandbox/bootstrap").status_code == 401
    answer = sandbox.client.get("/_sandbox/bootstrap", headers={"authorization": f"Bearer {TOKEN}"})
    assert set(answer.json()) == {"account", "spaces", "registry"}


def test_every_answer_carries_a_request_id_and_rate_limits(sandbox: Sandbox):
    sandbox.get("/v2/account")
    first = sandbox.headers
    assert first["ratelimit-limit"] == "5000"
    sandbox.refused("GET", "/v2/vpcs/none")
    assert int(sandbox.headers["ratelimit-remaining"]) == int(first["ratelimit-remaining"]) - 1
    assert sandbox.headers["x-request-id"] != first["x-request-id"]


def test_an_unknown_path_is_404_and_a_broken_body_400(sandbox: Sandbox):
    assert sandbox.refused("GET", "/v2/no-such-product")[0] == 404
    assert sandbox.refused("PATCH", "/v2/account")[0] == 404
    headers = {"authorization": f"Bearer {TOKEN}"}
    for content in (b"{", b"[]", b'"x"'):
        answer = sandbox.client.post("/v2/tags", content=content, headers=headers)
        assert (answer.status_code, answer.json()["id"]) == (400, "bad_request")


def _filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def test_what_is_not_built_says_so_by_name_and_nothing_else_is_501_or_500(sandbox: Sandbox):
    said = 0
    for operation in OPERATIONS:
        status, body = sandbox.call(
            operation.method, _filled(operation.path), {} if operation.method != "GET" else None
        )
        if operation.id not in HANDLERS:
            assert status == 501, operation
            assert operation.id in body["message"]
            said += 1
        else:
            assert status != 500, (operation, body)
            assert status < 400 or body["message"], operation
    assert said == len(OPERATIONS) - len(HANDLERS)


def test_every_operation_of_the_description_is_known():
    description = openapi.load(openapi.required())
    served = {ident for ident, (path, _) in description.operations.items() if path.startswith("/v2/")}
    # The old name of the reserved IPs, which clients still call, is not in our excerpt of the description.
    assert {operation.id for operation in OPERATIONS if not operation.id.startswith("floatingIPs")} == served


def test_every_operation_has_the_method_path_and_status_of_the_description():
    description = openapi.load(openapi.required())
    ours = {operation.id: operation for operation in OPERATIONS if operation.id in description.operations}
    for ident, operation in ours.items():
        path, method = description.operations[ident]
        assert (operation.method, operation.path) == (method.upper(), path), ident
        responses = description.raw["paths"][path][method]["responses"]
        assert str(operation.status) in responses, f"{ident}: {operation.status} is none of {', '.join(responses)}"


def test_the_page_of_fidelity_counts_the_operations():
    page = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text()
    told = f"Of the {len(OPERATIONS)} operations that the sandbox knows by name, {len(HANDLERS)} have a handler."
    assert told in page


def test_long_lists_come_in_pages_with_absolute_links(sandbox: Sandbox):
    for number in range(45):
        sandbox.post("/v2/tags", {"name": f"t{number:02}"})
    first = sandbox.get("/v2/tags")
    assert [tag["name"] for tag in first["tags"]] == [f"t{number:02}" for number in range(20)]
    assert first["meta"] == {"total": 45}
    assert first["links"]["pages"] == {"next": f"{BASE}/v2/tags?page=2", "last": f"{BASE}/v2/tags?page=3"}
    last = sandbox.get("/v2/tags?page=3&per_page=20")
    assert len(last["tags"]) == 5
    assert last["links"]["pages"] == {
        "first": f"{BASE}/v2/tags?page=1&per_page=20",
        "prev": f"{BASE}/v2/tags?page=2&per_page=20",
    }
    assert sandbox.get("/v2/tags?per_page=200")["links"] == {}
    assert sandbox.get("/v2/tags?page=9")["tags"] == []


def test_nothing_is_answered_before_the_parts_are_there(tmp_path):
    parts = NoParts()
    parts.gate["reconcile"] = threading.Event()
    with running(tmp_path, parts, wait=False) as sandbox:
        assert sandbox.client.get("/_sandbox/health").status_code == 503
        assert sandbox.refused("GET", "/v2/account")[0] == 503
        assert sandbox.headers["retry-after"] == "1"
        parts.gate["reconcile"].set()
        sandbox.until(lambda: sandbox.client.get("/_sandbox/health").status_code == 200)
        sandbox.get("/v2/account")


def test_parts_that_cannot_start_are_reported_by_health(tmp_path):
    parts = NoParts()
    parts.fail["reconcile"] = RuntimeError("no Docker here")
    with running(tmp_path, parts, wait=False) as sandbox:
        sandbox.until(lambda: "no Docker here" in sandbox.client.get("/_sandbox/health").json()["status"])
        assert sandbox.client.get("/_sandbox/health").status_code == 503


def test_answers_can_be_recorded_for_whoever_validates_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCLA_SANDBOX_RECORD", str(tmp_path / "record"))
    with running(tmp_path / "home", NoParts()) as sandbox:
        tag = sandbox.post("/v2/tags", {"name": "app"})
        sandbox.refused("GET", "/v2/tags/none")
    lines = (tmp_path / "record" / "responses.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"operation": "tags_create", "status": 201, "body": tag}]


# --- the validator itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda droplet: droplet.pop("tags"), "'tags' is a required property"),
        (lambda droplet: droplet.update(volume_ids=None), "/volume_ids"),
        (lambda droplet: droplet.update(status="booting"), "/status"),
        (lambda droplet: droplet["networks"]["v4"][0].update(type="vpc"), "/type"),
        (lambda droplet: droplet["size"].pop("price_monthly"), "price_monthly"),
    ],
)
def test_the_validator_finds_what_is_wrong(sandbox: Sandbox, change, complaint):
    description = openapi.load(openapi.required())
    body = {"droplet": sandbox.droplet()}
    assert description.problems("droplets_get", 200, body) == []
    change(body["droplet"])
    assert complaint in "\n".join(description.problems("droplets_get", 200, body))


def test_the_validator_knows_statuses_and_errors(sandbox: Sandbox):
    description = openapi.load(openapi.required())
    assert description.problems("droplets_create", 201, {}) != []
    assert description.problems("tags_get", 404, {"id": "not_found"}) != []


def test_objects_have_the_fields_that_the_description_knows(sandbox: Sandbox):
    """Its schemas require little, so its answers would pass with half of their fields missing."""
    description = openapi.load(openapi.required())
    sandbox.parts.bucket_list = (("nyc3", "assets"),)
    sandbox.post("/v2/account/keys", {"name": "me", "public_key": PUBLIC_KEY})
    droplet = sandbox.droplet(tags=["app"], backups=True)
    rule = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
    sandbox.post("/v2/firewalls", {"name": "fw", "tags": ["app"], "inbound_rules": [rule]})
    sandbox.post("/v2/reserved_ips", {"droplet_id": droplet["id"]})
    database = f"/v2/databases/{sandbox.cluster()['id']}"
    sandbox.post(f"{database}/pools", {"name": "pool", "mode": "transaction", "size": 10, "db": "defaultdb"})
    sandbox.put(f"{database}/firewall", {"rules": [{"type": "tag", "value": "app"}]})
    sandbox.post("/v2/domains", {"name": "example.org"})
    sandbox.post("/v2/spaces/keys", {"name": "k", "grants": []})
    sandbox.post("/v2/cdn/endpoints", {"origin": "assets.nyc3.digitaloceanspaces.com"})
    sandbox.post("/v2/registry", {"name": "acme", "subscription_tier_slug": "basic"})
    sandbox.post("/v2/volumes", {"name": "vol", "region": "nyc3", "size_gigabytes": 10})
    # Field → why an answer here may be without it.
    absent = {
        "gpu_info": "of GPU sizes",
        "standby_connection": "of clusters that were restored from a standby",
        "standby_private_connection": "the same",
        "ui_connection": "of other engines",
        "schema_registry_connection": "the same",
        "do_settings": "only when set",
        "mysql_settings": "of MySQL",
        "access_cert": "of Kafka",
        "access_key": "the same",
        "settings": "only when set",
        "description": "only when given",
        "ip_address": "is not kept, it becomes a record",
        "certificate_id": "only with a custom domain",
        "custom_domain": "the same",
    }
    more = {"reserved_ip_limit", "volume_limit"}  # real answers have them; the description does not
    for operation, path, key in (
        ("account_get", "/v2/account", "account"),
        ("sshKeys_list", "/v2/account/keys", "ssh_keys"),
        ("droplets_list", "/v2/droplets", "droplets"),
        ("firewalls_list", "/v2/firewalls", "firewalls"),
        ("reservedIPs_list", "/v2/reserved_ips", "reserved_ips"),
        ("databases_list_clusters", "/v2/databases", "databases"),
        ("databases_list_users", f"{database}/users", "users"),
        ("databases_list_connectionPools", f"{database}/pools", "pools"),
        ("databases_list_firewall_rules", f"{database}/firewall", "rules"),
        ("domains_list", "/v2/domains", "domains"),
        ("domains_list_records", "/v2/domains/example.org/records", "domain_records"),
        ("spacesKey_list", "/v2/spaces/keys", "keys"),
        ("cdn_list_endpoints", "/v2/cdn/endpoints", "endpoints"),
        ("registry_get", "/v2/registry", "registry"),
        ("registries_get", "/v2/registries/acme", "registry"),
        ("projects_list", "/v2/projects", "projects"),
        ("projects_list_resources", "/v2/projects/default/resources", "resources"),
        ("volumes_list", "/v2/volumes", "volumes"),
        ("vpcs_list", "/v2/vpcs", "vpcs"),
        ("tags_list", "/v2/tags", "tags"),
        ("actions_list", "/v2/actions", "actions"),
        ("regions_list", "/v2/regions", "regions"),
        ("sizes_list", "/v2/sizes", "sizes"),
        ("images_list", "/v2/images", "images"),
    ):
        answer = sandbox.get(path)[key]
        ours = set(answer[0] if isinstance(answer, list) else answer)
        known = description.fields(operation, 200, key)
        assert ours - known - more == set(), operation
        assert known - ours - set(absent) == set(), operation
        assert description.example(operation, 200, key) - ours - set(absent) == set(), operation
