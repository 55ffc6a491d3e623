from __future__ import annotations

from tests.sandbox.conftest import Sandbox

PROJECT = {"name": "shop", "purpose": "Web Application", "environment": "Staging"}


def _urns(sandbox: Sandbox, project: str) -> set[str]:
    return {resource["urn"] for resource in sandbox.get(f"/v2/projects/{project}/resources")["resources"]}


def test_everything_new_lands_in_the_default_project(sandbox: Sandbox):
    droplet = sandbox.droplet()
    cluster = sandbox.cluster()
    sandbox.post("/v2/domains", {"name": "example.org"})
    sandbox.parts.bucket_list = (("nyc3", "assets"),)
    expected = {f"do:droplet:{droplet['id']}", f"do:dbaas:{cluster['id']}", "do:domain:example.org", "do:space:assets"}
    assert _urns(sandbox, "default") == expected
    default = sandbox.get("/v2/projects/default")["project"]
    assert default["is_default"] is True
    assert sandbox.refused("DELETE", f"/v2/projects/{default['id']}")[0] == 403


def test_resources_move_and_a_project_with_resources_stays(sandbox: Sandbox):
    droplet = f"do:droplet:{sandbox.droplet()['id']}"
    sandbox.parts.bucket_list = (("nyc3", "assets"),)
    project = sandbox.post("/v2/projects", PROJECT)["project"]["id"]
    body = {"resources": [droplet, "do:space:assets"]}
    moved = sandbox.post(f"/v2/projects/{project}/resources", body)["resources"]
    assert [resource["status"] for resource in moved] == ["assigned", "assigned"]
    again = sandbox.post(f"/v2/projects/{project}/resources", body)["resources"]
    assert [resource["status"] for resource in again] == ["already_assigned"] * 2
    assert _urns(sandbox, project) == set(body["resources"])
    message = "cannot delete a project with resources. move or remove the resources first"
    assert sandbox.refused("DELETE", f"/v2/projects/{project}") == (412, message)
    sandbox.post("/v2/projects/default/resources", {"resources": [droplet]})
    sandbox.parts.bucket_list = ()  # deleted by S3, unseen by this API
    sandbox.delete(f"/v2/projects/{project}")


def test_a_reserved_ip_goes_where_its_droplet_goes(sandbox: Sandbox):
    droplet = sandbox.droplet()
    made = sandbox.post("/v2/reserved_ips", {"droplet_id": droplet["id"]})
    sandbox.finished(made["links"]["actions"][0])
    address = made["reserved_ip"]["ip"]
    project = sandbox.post("/v2/projects", PROJECT)["project"]["id"]
    sandbox.post(f"/v2/projects/{project}/resources", {"resources": [f"do:droplet:{droplet['id']}"]})
    # DigitalOcean calls it a floating IP here, whatever it was called when it was assigned.
    assert _urns(sandbox, project) == {f"do:droplet:{droplet['id']}", f"do:floatingip:{address}"}
    assert sandbox.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["project_id"] == project
    body = {"resources": [f"do:reservedip:{address}"]}
    assert sandbox.refused("POST", "/v2/projects/default/resources", body) == (
        412,
        "Cannot move a Reserved IP with an associated Droplet. Move the Droplet instead",
    )
    assert sandbox.post(f"/v2/projects/{project}/resources", body)["resources"][0]["status"] == "already_assigned"


def test_wrong_urns_are_refused(sandbox: Sandbox):
    for urn in ("droplet:1", "do:firewall:1", "do:droplet"):
        assert sandbox.refused("POST", "/v2/projects/default/resources", {"resources": [urn]})[0] == 400


def test_a_resource_that_is_gone_does_not_fail_the_others(sandbox: Sandbox):
    droplet = f"do:droplet:{sandbox.droplet()['id']}"
    project = sandbox.post("/v2/projects", PROJECT)["project"]["id"]
    body = {"resources": ["do:droplet:1", "do:space:none", droplet]}
    answered = sandbox.post(f"/v2/projects/{project}/resources", body)["resources"]
    assert [resource["status"] for resource in answered] == ["not_found", "not_found", "assigned"]
    assert _urns(sandbox, project) == {droplet}


def test_a_purpose_of_ones_own_is_marked_and_names_are_unique(sandbox: Sandbox):
    body = PROJECT | {"purpose": "Selling hats", "environment": "production"}
    project = sandbox.post("/v2/projects", body)["project"]
    assert (project["purpose"], project["environment"]) == ("Other: Selling hats", "Production")
    assert sandbox.refused("POST", "/v2/projects", PROJECT)[0] == 409
    assert sandbox.refused("POST", "/v2/projects", PROJECT | {"name": "x", "environment": "Moon"})[0] == 422
    path = f"/v2/projects/{project['id']}"
    changed = sandbox.send("PATCH", path, {"description": "hats"})["project"]
    assert (changed["description"], changed["name"]) == ("hats", "shop")
    changed = sandbox.put(path, {"name": "hats", "purpose": "IoT", "description": "", "is_default": True})["project"]
    assert changed["is_default"] is True
    defaults = [other for other in sandbox.get("/v2/projects")["projects"] if other["is_default"]]
    assert [other["id"] for other in defaults] == [project["id"]]
    sandbox.send("PATCH", "/v2/projects/default", {"name": "caps"})
    assert sandbox.get(path)["project"]["name"] == "caps"


# --- tags ------------------------------------------------------------------------------------------------------------


def test_a_tag_counts_what_wears_it(sandbox: Sandbox):
    assert sandbox.post("/v2/tags", {"name": "env:prod"}) == sandbox.post("/v2/tags", {"name": "env:prod"})
    droplet = sandbox.droplet(tags=["env:prod"])
    sandbox.cluster(tags=["env:prod"])
    sandbox.post("/v2/volumes", {"name": "vol", "region": "nyc3", "size_gigabytes": 1, "tags": ["env:prod"]})
    resources = sandbox.get("/v2/tags/env:prod")["tag"]["resources"]
    counts = {kind: entry["count"] for kind, entry in resources.items() if isinstance(entry, dict)}
    assert counts == {"droplets": 1, "databases": 1, "volumes": 1, "images": 0, "volume_snapshots": 0}
    assert resources["count"] == 3
    assert resources["droplets"]["last_tagged_uri"].endswith(f"/v2/droplets/{droplet['id']}")
    sandbox.delete("/v2/tags/env:prod")
    assert sandbox.get(f"/v2/droplets/{droplet['id']}")["droplet"]["tags"] == []
    assert sandbox.refused("GET", "/v2/tags/env:prod")[0] == 404


def test_wrong_tags_are_refused(sandbox: Sandbox):
    for name in ("a b", "ü", "x" * 256, ""):
        assert sandbox.refused("POST", "/v2/tags", {"name": name})[0] == 422
    sandbox.post("/v2/tags", {"name": "app"})
    for kind, ident, status in (("droplet", "1", 404), ("planet", "1", 422)):
        body = {"resources": [{"resource_type": kind, "resource_id": ident}]}
        assert sandbox.refused("POST", "/v2/tags/app/resources", body)[0] == status
