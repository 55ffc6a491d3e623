from __future__ import annotations

from tests.sandbox.conftest import PUBLIC_KEY, Sandbox


def test_an_ssh_key_is_known_by_its_fingerprint_and_once_only(sandbox: Sandbox):
    key = sandbox.post("/v2/account/keys", {"name": "me", "public_key": PUBLIC_KEY})["ssh_key"]
    assert (
        key["fingerprint"] == "c6:4a:b0:78:d7:a3:91:2e:06:7c:5d:b3:ae:ed:87:53"
    )  # as `ssh-keygen -E md5 -lf` prints it
    assert sandbox.get(f"/v2/account/keys/{key['fingerprint']}")["ssh_key"] == key
    body = {"name": "again", "public_key": PUBLIC_KEY + "-elsewhere"}
    assert sandbox.refused("POST", "/v2/account/keys", body) == (422, "SSH Key is already in use on your account")
    assert sandbox.put(f"/v2/account/keys/{key['id']}", {"name": "new"})["ssh_key"]["name"] == "new"
    sandbox.delete(f"/v2/account/keys/{key['id']}")
    assert sandbox.refused("GET", f"/v2/account/keys/{key['id']}")[0] == 404


def test_what_is_no_key_is_refused(sandbox: Sandbox):
    for text in ("ssh-ed25519", "ssh-rsa " + PUBLIC_KEY.split()[1], "ssh-ed25519 !!!", "hello world"):
        status, message = sandbox.refused("POST", "/v2/account/keys", {"name": "me", "public_key": text})
        assert (status, message) == (422, "Key invalid, key should be of the format `type key [comment]`")


def test_the_offer_is_listed(sandbox: Sandbox):
    sizes = {size["slug"]: size for size in sandbox.get("/v2/sizes")["sizes"]}
    assert (sizes["s-1vcpu-1gb"]["price_monthly"], sizes["s-1vcpu-1gb"]["price_hourly"]) == (6.0, 0.00893)
    assert "nyc3" in {region["slug"] for region in sandbox.get("/v2/regions")["regions"]}
    by_slug = sandbox.get("/v2/images/ubuntu-24-04-x64")["image"]
    assert sandbox.get(f"/v2/images/{by_slug['id']}")["image"] == by_slug
    assert sandbox.get("/v2/images?private=true")["images"] == []
    assert "15" in sandbox.get("/v2/databases/options")["options"]["pg"]["versions"]
