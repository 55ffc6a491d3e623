from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.parts.none import NoParts
from tests.sandbox.conftest import Sandbox

ORIGIN = "assets.nyc3.digitaloceanspaces.com"


def _certificate(*names: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    start = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + timedelta(days=90))
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    pem = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def _upload(sandbox: Sandbox, name: str, *names: str) -> dict[str, Any]:
    leaf, private = _certificate(*names)
    body = {"name": name, "type": "custom", "leaf_certificate": leaf, "private_key": private}
    return sandbox.post("/v2/certificates", body)["certificate"]


@pytest.fixture
def parts() -> NoParts:
    parts = NoParts()
    parts.bucket_list = (("nyc3", "assets"),)
    return parts


# --- Spaces keys -----------------------------------------------------------------------------------------------------


def test_a_spaces_key_shows_its_secret_once_and_reaches_the_part(sandbox: Sandbox):
    body = {"name": "app", "grants": [{"bucket": "assets", "permission": "readwrite"}]}
    made = sandbox.post("/v2/spaces/keys", body)["key"]
    path = f"/v2/spaces/keys/{made['access_key']}"
    assert "secret_key" in made
    assert "secret_key" not in sandbox.get(path)["key"]
    assert "secret_key" not in sandbox.get("/v2/spaces/keys")["keys"][0]
    bootstrap, key = sandbox.parts.spaces_keys
    assert bootstrap.grants == (("", "fullaccess"),)
    assert (key.secret_key, key.grants) == (made["secret_key"], (("assets", "readwrite"),))
    sandbox.put(path, body | {"grants": [{"bucket": "assets", "permission": "read"}]})
    assert sandbox.parts.spaces_keys[1].grants == (("assets", "read"),)
    assert "secret_key" not in sandbox.send("PATCH", path, {"name": "renamed"})["key"]
    sandbox.delete(path)
    assert len(sandbox.parts.spaces_keys) == 1


def test_grants_are_checked_and_full_access_wins(sandbox: Sandbox):
    for grant in ({"bucket": "a", "permission": "write"}, {"bucket": "", "permission": "read"}):
        assert sandbox.refused("POST", "/v2/spaces/keys", {"name": "k", "grants": [grant]})[0] == 400
    grants = [{"bucket": "a", "permission": "read"}, {"bucket": "", "permission": "fullaccess"}]
    made = sandbox.post("/v2/spaces/keys", {"name": "k", "grants": grants})["key"]
    assert made["grants"] == [{"bucket": "", "permission": "fullaccess"}]


# --- CDN -------------------------------------------------------------------------------------------------------------


def test_a_cdn_endpoint_stands_before_a_space(sandbox: Sandbox):
    made = sandbox.post("/v2/cdn/endpoints", {"origin": ORIGIN})["endpoint"]
    assert (made["endpoint"], made["ttl"]) == ("assets.nyc3.cdn.digitaloceanspaces.com", 3600)
    path = f"/v2/cdn/endpoints/{made['id']}"
    assert sandbox.put(path, {"ttl": 60})["endpoint"]["ttl"] == 60
    assert sandbox.parts.cdns[0].ttl == 60
    sandbox.delete(f"{path}/cache", {"files": ["css/*"]})
    assert ("edge.purge", (made["id"], ("css/*",))) in sandbox.parts.calls
    assert sandbox.refused("DELETE", f"{path}/cache", {"files": []})[0] == 422
    assert sandbox.refused("POST", "/v2/cdn/endpoints", {"origin": ORIGIN})[0] == 409
    sandbox.delete(path)
    assert sandbox.parts.cdns == ()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"origin": "none.nyc3.digitaloceanspaces.com"}, 422),
        ({"origin": "assets.example.org"}, 422),
        ({"origin": ORIGIN, "ttl": 61}, 422),
        ({"origin": ORIGIN, "custom_domain": "assets.example.org"}, 422),
        ({"origin": ORIGIN, "custom_domain": "assets.example.org", "certificate_id": "none"}, 404),
        ({"origin": ORIGIN, "custom_domain": "a b; include /etc/x", "certificate_id": "needs-cloudflare-cert"}, 422),
        ({"origin": ORIGIN, "custom_domain": "a.example.org\n", "certificate_id": "needs-cloudflare-cert"}, 422),
    ],
)
def test_a_wrong_cdn_endpoint_is_refused(shared: Sandbox, body, status):
    shared.parts.bucket_list = (("nyc3", "assets"),)
    assert shared.refused("POST", "/v2/cdn/endpoints", body)[0] == status


def test_a_custom_domain_needs_a_certificate_that_stays_while_it_is_used(sandbox: Sandbox):
    wrong = _upload(sandbox, "wrong", "example.com")
    right = _upload(sandbox, "right", "*.example.org")
    body = {"origin": ORIGIN, "custom_domain": "assets.example.org"}
    assert sandbox.refused("POST", "/v2/cdn/endpoints", body | {"certificate_id": wrong["id"]})[0] == 422
    made = sandbox.post("/v2/cdn/endpoints", body | {"certificate_id": right["id"]})["endpoint"]
    cdn = sandbox.parts.cdns[0]
    assert cdn.custom_domain == "assets.example.org"
    assert "BEGIN CERTIFICATE" in (cdn.certificate or "")
    message = "Make sure the certificate is not in use before deleting it"
    assert sandbox.refused("DELETE", f"/v2/certificates/{right['id']}") == (403, message)
    sandbox.put(f"/v2/cdn/endpoints/{made['id']}", {"custom_domain": "", "certificate_id": ""})
    assert sandbox.parts.cdns[0].custom_domain is None
    sandbox.delete(f"/v2/certificates/{right['id']}")


# --- certificates ----------------------------------------------------------------------------------------------------


def test_an_own_certificate_is_read_and_its_key_never_shown(sandbox: Sandbox):
    made = _upload(sandbox, "web", "example.org", "www.example.org")
    assert (made["state"], made["dns_names"]) == ("verified", ["example.org", "www.example.org"])
    assert len(made["sha1_fingerprint"]) == 40
    _upload(sandbox, "other", "example.com")
    assert [cert["name"] for cert in sandbox.get("/v2/certificates?name=web")["certificates"]] == ["web"]
    assert "PRIVATE KEY" not in str(sandbox.get("/v2/certificates"))
    leaf, _ = _certificate("a.org")
    _, key = _certificate("a.org")
    body = {"name": "x", "type": "custom", "leaf_certificate": leaf, "private_key": key}
    assert sandbox.refused("POST", "/v2/certificates", body) == (422, "Private key does not match the certificate")
    assert sandbox.refused("POST", "/v2/certificates", body | {"leaf_certificate": "x"})[0] == 422
    assert sandbox.refused("POST", "/v2/certificates", body | {"name": "web"})[0] == 422


def test_a_certificate_is_issued_for_names_of_the_accounts_domains(sandbox: Sandbox):
    issued = _certificate("example.org", "*.example.org")
    sandbox.parts.answers["authority.issue"] = lambda names: issued
    body = {"name": "web", "type": "lets_encrypt", "dns_names": ["example.org", "*.example.org"]}
    assert "not managed" in sandbox.refused("POST", "/v2/certificates", body)[1]
    sandbox.post("/v2/domains", {"name": "example.org"})
    made = sandbox.post("/v2/certificates", body)["certificate"]
    assert made["state"] == "pending"
    path = f"/v2/certificates/{made['id']}"
    sandbox.until(lambda: sandbox.get(path)["certificate"]["state"] == "verified")
    assert sandbox.get(path)["certificate"]["not_after"] > made["created_at"]


# --- the registry ----------------------------------------------------------------------------------------------------


def test_a_registry_is_one_and_known_by_both_addresses(sandbox: Sandbox):
    assert sandbox.refused("GET", "/v2/registry")[0] == 404
    sandbox.post("/v2/registry", {"name": "acme", "subscription_tier_slug": "basic", "region": "nyc3"})
    assert sandbox.refused("POST", "/v2/registry", {"name": "two", "subscription_tier_slug": "basic"})[0] == 409
    assert sandbox.refused("POST", "/v2/registries/validate-name", {"name": "acme"})[0] == 409
    sandbox.post("/v2/registry/validate-name", {"name": "other"})
    assert sandbox.get("/v2/registries/acme")["registry"]["name"] == "acme"
    assert sandbox.get("/v2/registry")["registry"]["subscription"]["tier"]["slug"] == "basic"
    assert sandbox.get("/v2/registries")["registries"][0]["region"] == "nyc3"
    sandbox.parts.repository_list = ("acme/web", "acme/api", "other/x")
    names = [repository["name"] for repository in sandbox.get("/v2/registries/acme/repositoriesV2")["repositories"]]
    assert names == ["web", "api"]
    assert sandbox.refused("POST", "/v2/registries/subscription", {"tier_slug": "starter"})[0] == 412
    assert sandbox.get("/v2/registries/options")["options"]["subscription_tiers"][0]["eligible"] is False
    changed = sandbox.post("/v2/registries/subscription", {"tier_slug": "professional"})
    assert changed["subscription"]["tier"]["monthly_price_in_cents"] == 2000
    sandbox.delete("/v2/registries/acme")
    assert sandbox.refused("GET", "/v2/registries/acme")[0] == 404


def test_docker_credentials_are_logins_that_expire_and_end_with_the_registry(sandbox: Sandbox):
    sandbox.post("/v2/registry", {"name": "acme", "subscription_tier_slug": "basic"})
    before = len(sandbox.parts.registry_logins)
    answer = sandbox.get("/v2/registries/acme/docker-credentials?read_write=true&expiry_seconds=600")
    auth = answer["auths"]["registry.digitalocean.com"]["auth"]
    username, _, password = base64.b64decode(auth).decode().partition(":")
    login = sandbox.parts.registry_logins[-1]
    assert (login.username, login.password, len(sandbox.parts.registry_logins)) == (username, password, before + 1)
    assert login.expires is not None
    sandbox.get("/v2/registry/docker-credentials")
    assert sandbox.parts.registry_logins[-1].expires is None
    sandbox.delete("/v2/registry")
    assert len(sandbox.parts.registry_logins) == before


# --- volumes ---------------------------------------------------------------------------------------------------------


def test_a_volume_is_attached_resized_detached_and_kept_while_attached(sandbox: Sandbox):
    droplet = sandbox.droplet()
    body = {"name": "data", "region": "nyc3", "size_gigabytes": 10, "filesystem_type": "ext4"}
    path = "/v2/volumes/" + sandbox.post("/v2/volumes", body)["volume"]["id"]
    assert sandbox.refused("POST", "/v2/volumes", body)[0] == 409
    action = sandbox.post(f"{path}/actions", {"type": "attach", "droplet_id": droplet["id"]})["action"]
    assert sandbox.finished(action) == "completed"
    assert sandbox.get(path)["volume"]["droplet_ids"] == [droplet["id"]]
    shown = sandbox.get(f"/v2/droplets/{droplet['id']}")["droplet"]["volume_ids"]
    assert shown == [path.rpartition("/")[2]]
    assert sandbox.refused("DELETE", path)[0] == 409
    assert sandbox.finished(sandbox.post(f"{path}/actions", {"type": "resize", "size_gigabytes": 20})["action"])
    body = {"type": "detach", "droplet_id": droplet["id"], "volume_name": "data", "region": "nyc3"}
    assert sandbox.finished(sandbox.post("/v2/volumes/actions", body)["action"]) == "completed"
    assert sandbox.refused("POST", f"{path}/actions", body)[0] == 422
    resize = sandbox.post(f"{path}/actions", {"type": "resize", "size_gigabytes": 30})["action"]
    assert sandbox.finished(resize) == "completed"
    assert sandbox.get(f"{path}/actions/{resize['id']}")["action"]["resource_id"] is None
    assert [action["type"] for action in sandbox.get(f"{path}/actions")["actions"]][-1] == "attach_volume"
    assert sandbox.refused("POST", f"{path}/actions", {"type": "resize", "size_gigabytes": 5})[0] == 422
    snapshot = sandbox.post(f"{path}/snapshots", {"name": "before"})["snapshot"]
    assert sandbox.get("/v2/snapshots?resource_type=volume")["snapshots"] == [snapshot]
    assert sandbox.get(f"{path}/snapshots")["snapshots"] == [snapshot]
    sandbox.delete(f"/v2/volumes/snapshots/{snapshot['id']}")
    sandbox.delete("/v2/volumes?name=data&region=nyc3")
    assert sandbox.get("/v2/volumes?name=data")["volumes"] == []
